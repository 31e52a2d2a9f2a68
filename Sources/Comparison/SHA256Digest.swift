import CCrypto
import Foundation

/// SHA-256 (FIPS 180-4) of bytes and files, as 64 hexadecimal digits.
public enum SHA256Digest {
    /// The digest of some bytes.
    public static func of(_ data: Data) -> String {
        bytes(data).map { byte in
            let digits = String(byte, radix: 16)
            return byte < 16 ? "0" + digits : digits
        }.joined()
    }

    /// The digest of a text as an HTML page's policy names it: `sha256-` and base64 (CSP Level 3
    /// §2.3.1, hash-source).
    static func source(_ text: String) -> String {
        "sha256-" + Data(bytes(Data(text.utf8))).base64EncodedString()
    }

    private static func bytes(_ data: Data) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        _ = unsafe data.withUnsafeBytes { bytes in
            // Both buffers outlive the call; the digest is as long as the function writes.
            unsafe CCrypto.SHA256(
                bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, &digest)
        }
        return digest
    }

    /// The digest of a text's UTF-8 form.
    public static func of(_ text: String) -> String { of(Data(text.utf8)) }

    /// The digest of what a file holds.
    /// - Throws: `InputError` where it cannot be read.
    public static func ofFile(_ path: String) throws(InputError) -> String {
        do {
            return of(try Data(contentsOf: URL(filePath: path), options: .alwaysMapped))
        } catch {
            throw .unreadable(path, error)
        }
    }
}
