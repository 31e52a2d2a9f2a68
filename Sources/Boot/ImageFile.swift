import SystemPackage

/// A file in host memory, read with bounds checks: whatever its headers say, a read beyond its end
/// is `BootError.truncated`.
package struct ImageFile {
    /// The name under which errors speak of it.
    package let path: String
    /// The contents.
    package let bytes: [UInt8]

    package init(path: String, bytes: [UInt8]) {
        self.path = path
        self.bytes = bytes
    }

    /// The size in bytes.
    package var size: UInt64 { UInt64(bytes.count) }

    /// Reads a whole file of 1 to `limit` bytes.
    package static func read(_ path: FilePath, limit: UInt64) throws(BootError) -> ImageFile {
        let name = path.string
        let descriptor: FileDescriptor
        do {
            descriptor = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
        } catch {
            throw .cannotOpen(path: name, error as? Errno ?? .ioError)
        }
        defer { try? descriptor.close() }
        var bytes = [UInt8](repeating: 0, count: 65536)
        var filled = 0
        while true {
            if filled == bytes.count {
                // The size is asked for only now: a directory has one too, and cannot be read.
                // What cannot seek (a pipe) tells none, and is read in growing pieces.
                let size = UInt64((try? descriptor.seek(offset: 0, from: .end)) ?? 0)
                if size > limit { throw .fileTooLarge(path: name, limit: limit) }
                if size > 0 { _ = try? descriptor.seek(offset: Int64(filled), from: .start) }
                let room = max(size + 1, min(2 * UInt64(filled), limit + 1))
                let more = max(Int(room) - filled, 1)
                bytes.append(contentsOf: repeatElement(0, count: more))
            }
            do {
                let start = filled
                // The slice is not empty: there is room after the step above.
                let count = try unsafe bytes.withUnsafeMutableBytes { buffer in
                    try unsafe descriptor.read(
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer[start...]))
                }
                if count == 0 { break }
                filled += count
            } catch {
                throw .cannotRead(path: name, error as? Errno ?? .ioError)
            }
            if UInt64(filled) > limit { throw .fileTooLarge(path: name, limit: limit) }
        }
        if filled == 0 { throw .emptyFile(path: name) }
        bytes.removeLast(bytes.count - filled)
        return ImageFile(path: name, bytes: bytes)
    }

    /// Throws unless the file has all of `count` bytes from `offset`.
    /// - Returns: those bytes' range.
    @discardableResult
    package func range(at offset: UInt64, count: UInt64) throws(BootError) -> Range<Int> {
        let (end, overflow) = offset.addingReportingOverflow(count)
        guard !overflow, end <= size else {
            throw .truncated(path: path, needed: overflow ? .max : end, actual: size)
        }
        return Int(offset)..<Int(end)
    }

    /// The little-endian integer at `offset`.
    package func load<T: FixedWidthInteger & UnsignedInteger>(
        _ type: T.Type, at offset: UInt64
    ) throws(BootError) -> T {
        var value: T = 0
        for index in try range(at: offset, count: UInt64(T.bitWidth / 8)).reversed() {
            value = value << 8 | T(bytes[index])
        }
        return value
    }
}
