import MachineMemory
import Snapshot
import X86

/// Saved machines (`Docs/SavedMachines.md`).
///
/// What is saved is the guest's: processors, memory, chips, clock, and whose turn it is. Nothing
/// of the technique is: guest memory is complete at any moment, since recorded and completed
/// writes have been made (records name places, whose values memory holds); shadow tables, second
/// dimensions and translation caches are remade from the guest's tables, as after a flush of all
/// of them, which the architecture allows at any moment.
extension VirtualMachine {
    /// Saves the machine in a file. Not while it runs; it is as before afterwards, and can go on.
    public func save(to path: String) throws(SavedMachineError) {
        let file = try SavedFileWriter(path)
        func add(
            _ name: String, _ body: (inout FieldWriter) -> Void
        ) throws(SavedMachineError) {
            var writer = FieldWriter()
            body(&writer)
            try file.add(name, writer.bytes)
        }
        try add(SavedFile.machine) { configuration.save(to: &$0) }
        try add(SavedFile.board) { saveBoard(to: &$0) }
        for (number, processor) in processors.enumerated() {
            try add("processor\(number)") { processor.save(to: &$0) }
        }
        try add(SavedFile.chipset) { board.chipset.save(to: &$0) }
        try unsafe file.addCompressed(SavedFile.memory) { (put) throws(SavedMachineError) in
            try unsafe saveMemory(put)
        }
        try file.commit()
    }

    /// Throws where no file can be written under a name. What is there is left as it is.
    public static func checkSaving(to path: String) throws(SavedMachineError) {
        _ = try SavedFileWriter(path)
    }

    private func saveBoard(to writer: inout FieldWriter) {
        turn.save(to: &writer)
        writer.put(clock.now)
        writer.put(tap.digest)
    }

    func restoreBoard(from reader: inout FieldReader) throws(FieldError) {
        try turn.restore(from: &reader)
        clock.retiredByOthers = processors.reduce(0) { $0 &+ $1.retired } &- current.retired
        clock.set(try reader.get("time", in: 0...1 << 62))
        tap.restore(digest: try reader.get("digest of the console"))
    }

    // MARK: Memory: for each run of pages its first frame and their number (8 bytes each), and the
    // pages; at the end the frame 2^64 - 1 and none.

    /// How many pages one run has at most.
    private static let longestRun: UInt64 = 256

    private func saveMemory(
        _ put: (UnsafeRawBufferPointer) throws(SavedMachineError) -> Void
    ) throws(SavedMachineError) {
        func putHead(_ frame: UInt64, _ count: UInt64) throws(SavedMachineError) {
            var writer = FieldWriter()
            writer.put(frame)
            writer.put(count)
            try unsafe writer.bytes.span.bytes.withUnsafeBytes {
                (bytes) throws(SavedMachineError) in
                try unsafe put(bytes)
            }
        }
        try unsafe memory.forEachUsedRun(atMost: Self.longestRun) {
            (frame, pages) throws(SavedMachineError) in
            try putHead(frame, UInt64(pages.count) / pageSize)
            try unsafe put(pages)
        }
        try putHead(.max, 0)
    }

    /// Fills memory, which is all zero, from the file.
    func restoreMemory(_ saved: SavedMachine) throws(SavedMachineError) {
        // What is before each run.
        let head = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
        defer { unsafe head.deallocate() }
        try unsafe saved.readMemory { (fill) throws(SavedMachineError) in
            var next: UInt64 = 0
            while true {
                try unsafe fill(head)
                let frame = unsafe UInt64(littleEndian: head.load(as: UInt64.self))
                let count = unsafe UInt64(
                    littleEndian: head.load(fromByteOffset: 8, as: UInt64.self))
                if frame == .max && count == 0 { return }
                guard frame >= next, count <= Self.longestRun,
                    let pages = unsafe memory.guestPages(frame, count: count)
                else { throw .impossible(path: saved.path, "its memory has pages elsewhere") }
                try unsafe fill(pages)
                next = frame + count
            }
        }
    }
}
