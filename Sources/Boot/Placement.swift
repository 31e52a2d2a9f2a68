import X86

/// What has been placed where: guest RAM below 3 GiB, with the ranges that are taken.
struct Placement: ~Copyable {
    /// The end of RAM below the devices.
    let lowTop: UInt64
    private let memory: any GuestMemory
    private let kernel: String
    private var taken = [0..<Layout.bootDataEnd, Layout.extendedBIOSData..<Layout.extendedMemory]
    private var images: [Range<UInt64>] = []

    /// - Parameter kernel: the name under which errors speak of the kernel's file.
    init(memory: any GuestMemory, memoryBytes: UInt64, kernel: String) throws(BootError) {
        guard memoryBytes >= Layout.leastMemory else { throw .tooLittleMemory(bytes: memoryBytes) }
        self.memory = memory
        self.kernel = kernel
        lowTop = Layout.lowTop(memoryBytes: memoryBytes)
    }

    /// Takes `size` bytes at `start` for part of the kernel.
    mutating func claim(_ start: UInt64, size: UInt64) throws(BootError) {
        let (end, overflow) = start.addingReportingOverflow(size)
        guard !overflow, end <= lowTop else {
            throw .noRAM(path: kernel, start: start, end: overflow ? .max : end)
        }
        let range = start..<end
        if let image = images.first(where: { $0.overlaps(range) }) {
            throw .overlap(path: kernel, address: max(image.lowerBound, start))
        }
        if taken.contains(where: { $0.overlaps(range) }) {
            throw .noRAM(path: kernel, start: start, end: end)
        }
        taken.append(range)
        images.append(range)
    }

    /// Takes the highest free place of `size` bytes below `limit`, at a page's start.
    mutating func claimHighest(
        size: UInt64, below limit: UInt64, for path: String
    ) throws(BootError) -> UInt64 {
        let limit = min(limit, lowTop)
        var end = limit
        while end >= size, end - size >= Layout.extendedMemory {
            let start = (end - size) & ~(pageSize - 1)
            let range = start..<start + size
            guard let obstacle = taken.first(where: { $0.overlaps(range) }) else {
                taken.append(range)
                return start
            }
            // Strictly lower than before, so the search ends.
            end = obstacle.lowerBound
        }
        throw .doesNotFit(path: path, bytes: size, limit: limit)
    }

    /// Takes the lowest free place of `size` bytes at or above `floor`, at a page's start.
    mutating func claimLowest(
        size: UInt64, from floor: UInt64, for path: String
    ) throws(BootError) -> UInt64 {
        var start = (max(floor, Layout.extendedMemory) &+ pageSize - 1) & ~(pageSize - 1)
        while start <= lowTop, lowTop - start >= size {
            let range = start..<start + size
            guard let obstacle = taken.first(where: { $0.overlaps(range) }) else {
                taken.append(range)
                return start
            }
            // Strictly higher than before, so the search ends.
            start = (obstacle.upperBound + pageSize - 1) & ~(pageSize - 1)
        }
        throw .doesNotFit(path: path, bytes: size, limit: lowTop)
    }

    /// The end of the kernel's highest part.
    var kernelEnd: UInt64 { images.map(\.upperBound).max() ?? 0 }

    /// Copies bytes to guest memory.
    func write(_ bytes: [UInt8], at address: UInt64) throws(BootError) {
        try write(bytes, bytes.indices, at: address)
    }

    /// Copies `range` of `bytes`, which must have it, to guest memory.
    func write(_ bytes: [UInt8], _ range: Range<Int>, at address: UInt64) throws(BootError) {
        if range.isEmpty { return }
        guard memory.write(bytes.span.extracting(range), at: GuestPhysicalAddress(address)) else {
            let end = address &+ UInt64(range.count)
            throw .noRAM(path: kernel, start: address, end: end)
        }
    }

    /// Writes zeroes: memory may hold what a guest left there before a reset.
    func clear(_ address: UInt64, count: UInt64) throws(BootError) {
        let zeroes = [UInt8](repeating: 0, count: 65536)
        var done: UInt64 = 0
        while done < count {
            let piece = min(count - done, UInt64(zeroes.count))
            try write(zeroes, 0..<Int(piece), at: address &+ done)
            done += piece
        }
    }
}
