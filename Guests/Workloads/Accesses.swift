/// Workloads that are about memory that is there already.
enum Accesses {
    /// Reads of random words in `mebibytes` of memory: eight for each page.
    static func random(_ mebibytes: Int, _ gate: Gate) -> UInt64 {
        let pages = mebibytes * 256
        let memory = filled(pages)
        var checksum = Checksum()
        // Knuth's MMIX generator; its upper bits choose.
        var state = UInt64(gate.worker) &+ 1
        let words = UInt64(pages * Memory.wordsPerPage)
        gate.pass()
        for _ in 0..<pages * 8 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let word = (state >> 32) % words
            checksum.add(memory[Int(word)])
        }
        return checksum.value
    }

    /// `mebibytes` of memory are written from end to end, and read.
    static func stream(_ mebibytes: Int, _ gate: Gate) -> UInt64 {
        let pages = mebibytes * 256
        let memory = filled(pages)
        let words = pages * Memory.wordsPerPage
        var sum: UInt64 = 0
        gate.pass()
        for word in 0..<words { memory[word] = UInt64(word) }
        for word in 0..<words { sum = sum &+ memory[word] }
        var checksum = Checksum()
        checksum.add(sum)
        return checksum.value
    }

    /// A file of `mebibytes`, which the page cache holds, is read from end to end four times, in
    /// parts of 64 KiB.
    static func read(_ mebibytes: Int, _ gate: Gate) -> UInt64 {
        let buffer = filled(16)
        let file = temporaryFile()
        for _ in 0..<mebibytes * 16 {
            if System.call(.write, file, buffer.address, buffer.size) != buffer.size {
                System.fail(.write, 28)
            }
        }
        var checksum = Checksum()
        gate.pass()
        for _ in 0..<4 {
            for part in 0..<mebibytes * 16 {
                checksum.add(
                    System.call(.pread64, file, buffer.address, buffer.size, part * buffer.size))
                checksum.add(buffer[part % (buffer.size / 8)])
            }
        }
        System.call(.close, file)
        return checksum.value
    }

    /// A file without a name, which is gone with the process.
    private static func temporaryFile() -> Int {
        let folder: StaticString = "/tmp"
        // O_TMPFILE | O_RDWR, for the owner.
        return unsafe System.call(
            .open, Int(bitPattern: folder.utf8Start), 0o20200002, 0o600)
    }

    private static func filled(_ pages: Int) -> Memory {
        let memory = Memory(pages: pages)
        for page in 0..<pages {
            memory[page * Memory.wordsPerPage] = UInt64(page) &* 0x9e37_79b9_7f4a_7c15
        }
        return memory
    }
}
