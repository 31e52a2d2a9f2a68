import Foundation

extension ComparisonDocument {
    /// Reads what `json()` wrote.
    /// - Throws: where the file cannot be read, is no comparison, or one of another version.
    public static func read(_ path: String) throws(InputError) -> ComparisonDocument {
        let data: Data
        do { data = try Data(contentsOf: URL(filePath: path)) } catch {
            throw .unreadable(path, error)
        }
        return try parse(data, file: path)
    }

    /// The same, of a file's contents.
    package static func parse(_ data: Data, file: String) throws(InputError) -> ComparisonDocument {
        func refuse(_ message: String) -> InputError {
            InputError(
                file: file, line: nil,
                "\(message); give a file that 'penumbra compare --json' wrote")
        }
        guard let heading = try? JSONDecoder().decode(Heading.self, from: data),
            heading.format == "penumbra-comparison"
        else { throw refuse("is no comparison") }
        guard heading.version == formatVersion else {
            throw refuse(
                "is a comparison of version \(heading.version); this program reads version "
                    + "\(formatVersion)")
        }
        do {
            return try JSONDecoder().decode(ComparisonDocument.self, from: data)
        } catch let error as DecodingError {
            throw refuse(Self.words(error))
        } catch { throw refuse("is no comparison") }
    }

    /// What tells a comparison from other files.
    private struct Heading: Decodable {
        var format: String
        var version: Int
    }

    /// Where a comparison is not as it should be: `cells/0/status has no value that is allowed`.
    private static func words(_ error: DecodingError) -> String {
        func name(_ path: [any CodingKey]) -> String {
            path.isEmpty
                ? "the comparison"
                : path.map { $0.intValue.map { String($0) } ?? $0.stringValue }
                    .joined(separator: "/")
        }
        switch error {
        case .keyNotFound(let key, let context):
            return "\(name(context.codingPath)) misses '\(key.stringValue)'"
        case .typeMismatch(_, let context), .valueNotFound(_, let context),
            .dataCorrupted(let context):
            return "\(name(context.codingPath)) has no value that is allowed there"
        @unknown default: return "is no comparison"
        }
    }
}
