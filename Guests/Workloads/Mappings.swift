/// Workloads that are about mapping pages.
enum Mappings {
    /// `count` times: 16 pages are mapped, every fourth is written, and all are unmapped.
    static func map(_ count: Int, _ gate: Gate) -> UInt64 {
        var checksum = Checksum()
        gate.pass()
        for index in 0..<count {
            let memory = Memory(pages: 16)
            for page in stride(from: 0, to: 16, by: 4) {
                let word = page * Memory.wordsPerPage
                memory[word] = UInt64(index)
                checksum.add(memory[word])
            }
            memory.unmap()
        }
        return checksum.value
    }

    /// `count` times: 16 pages are made read-only, read, made writable and written.
    static func protect(_ count: Int, _ gate: Gate) -> UInt64 {
        let pages = 16
        let memory = Memory(pages: pages)
        for page in 0..<pages { memory[page * Memory.wordsPerPage] = UInt64(page) }
        var checksum = Checksum()
        gate.pass()
        for index in 0..<count {
            memory.protect(writable: false)
            for page in 0..<pages { checksum.add(memory[page * Memory.wordsPerPage]) }
            memory.protect(writable: true)
            for page in 0..<pages { memory[page * Memory.wordsPerPage] = UInt64(index + page) }
        }
        memory.unmap()
        return checksum.value
    }

    /// The first write to each of `pages` pages.
    static func touch(_ pages: Int, _ gate: Gate) -> UInt64 {
        let memory = Memory(pages: pages)
        var checksum = Checksum()
        gate.pass()
        for page in 0..<pages {
            let word = page * Memory.wordsPerPage
            memory[word] = UInt64(page)
            // The page is new but for this.
            checksum.add(memory[word] &+ memory[word + 1])
        }
        return checksum.value
    }
}
