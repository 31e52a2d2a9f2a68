import Foundation
import Yams

/// A value in a YAML or JSON file that the user gave, with the place where it stands, so that
/// whatever is wrong can be said with file and line.
///
/// YAML 1.2 contains JSON, so one reader serves profiles and ledgers. The parser bounds the depth of
/// nesting; `maximumBytes` bounds the rest.
struct InputNode {
    let file: String
    let node: Node

    /// A ledger has some hundred kilobytes; one of 256 regions, each with all its places, has 20 MB.
    static let maximumBytes = 32 << 20

    /// Reads a file.
    /// - Parameter what: what the file should be, for messages: "a ledger".
    static func read(_ path: String, _ what: String) throws(InputError) -> InputNode {
        let data: Data
        do {
            let handle = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? handle.close() }
            data = try handle.read(upToCount: maximumBytes + 1) ?? Data()
        } catch {
            throw .unreadable(path, error)
        }
        guard data.count <= maximumBytes else {
            throw InputError(
                file: path, line: nil,
                "has more than \(maximumBytes >> 20) MiB; \(what) has at most that")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw InputError(file: path, line: nil, "is not UTF-8 text; give \(what)")
        }
        return try parse(text, file: path, what)
    }

    /// Parses a text.
    static func parse(
        _ text: String, file: String, _ what: String
    ) throws(InputError) -> InputNode {
        do {
            guard let node = try Yams.compose(yaml: text) else {
                throw InputError(file: file, line: nil, "is empty; give \(what)")
            }
            return InputNode(file: file, node: node)
        } catch let error as InputError {
            throw error
        } catch {
            throw syntaxError(error, file: file, what)
        }
    }

    private static func syntaxError(
        _ error: any Error, file: String, _ what: String
    ) -> InputError {
        switch error as? YamlError {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return InputError(file: file, line: mark.line, "\(problem); give \(what)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            return InputError(
                file: file, line: context.mark.line,
                "'\(duplicates.first ?? "a key")' is given twice; give it once")
        default:
            return InputError(file: file, line: nil, "is neither YAML nor JSON; give \(what)")
        }
    }

    /// An error about this value.
    func error(_ message: String) -> InputError {
        InputError(file: file, line: node.mark?.line, message)
    }

    /// The values of a mapping by key, in the file's order.
    /// - Parameter what: what stands here, for messages: "a figure".
    func members(_ what: String) throws(InputError) -> [(key: String, value: InputNode)] {
        guard case .mapping(let mapping) = node else {
            throw error("\(what) is no mapping; give 'key: value' lines")
        }
        var members: [(key: String, value: InputNode)] = []
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                throw InputNode(file: file, node: key).error("a key is no word; give a word")
            }
            members.append((scalar.string, InputNode(file: file, node: value)))
        }
        return members
    }

    /// The values of a mapping that may hold these keys and no others.
    func members(_ what: String, allowed: [String]) throws(InputError) -> [String: InputNode] {
        var result: [String: InputNode] = [:]
        for (key, value) in try members(what) {
            guard allowed.contains(key) else {
                throw value.error(
                    "\(what) has no '\(key)'; allowed are \(allowed.joined(separator: ", "))")
            }
            result[key] = value
        }
        return result
    }

    /// The elements of a sequence.
    func elements(_ what: String) throws(InputError) -> [InputNode] {
        guard case .sequence(let sequence) = node else {
            throw error("\(what) is no list; give a list")
        }
        return sequence.map { InputNode(file: file, node: $0) }
    }

    /// A text that is not empty.
    func text(_ what: String) throws(InputError) -> String {
        let text = try anyText(what)
        guard !text.isEmpty else { throw error("\(what) is empty; give some text") }
        return text
    }

    /// A text.
    func anyText(_ what: String) throws(InputError) -> String {
        guard case .scalar(let scalar) = node else {
            throw error("\(what) is no text; give a text")
        }
        return scalar.string
    }

    /// A whole number that is not negative.
    func count(_ what: String) throws(InputError) -> UInt64 {
        guard case .scalar(let scalar) = node, scalar.style == .plain,
            let number = UInt64(scalar.string)
        else {
            throw error("\(what) is no count; give a whole number from 0 to 2⁶⁴ − 1")
        }
        return number
    }

    /// A decimal number within `range`.
    func number(
        _ what: String, _ range: ClosedRange<Double>
    ) throws(InputError) -> Double {
        guard case .scalar(let scalar) = node, scalar.style == .plain,
            let number = Double(scalar.string), range.contains(number)
        else {
            let given = (try? anyText(what)) ?? "that"
            throw error(
                "\(what) cannot be \(given.prefix(40)); give a number from "
                    + "\(Self.text(range.lowerBound)) to \(Self.text(range.upperBound))")
        }
        return number
    }

    private static func text(_ bound: Double) -> String {
        bound == bound.rounded() && bound.magnitude < 1e15
            ? String(Int64(bound)) : String(bound)
    }
}
