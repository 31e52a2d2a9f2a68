import Boot
import Testing
import X86

/// Damaged kernels: each either loads or is refused with a typed error; nothing traps.
@Suite struct FuzzTests {
    private static let samples: [(name: String, bytes: [UInt8], headers: Int)] = {
        var addresses = SyntheticELF.multibootHeader(flags: 1 << 16)
        for field in [0x10_0000, 0x10_0000, 0x10_0020, 0x10_0040, 0x10_0000] as [UInt32] {
            addresses.append(littleEndian: field)
        }
        var wide = SyntheticELF.multiboot()
        wide.wide = true
        wide.machine = 62
        return [
            ("bzImage", SyntheticLinux().bytes, 0x280),
            ("Multiboot ELF32", SyntheticELF.multiboot().bytes, 100),
            ("Multiboot ELF64", wide.bytes, 140),
            ("Multiboot addresses", addresses, 32),
            ("PVH", SyntheticELF.pvh().bytes, 240),
        ]
    }()

    @Test(arguments: samples.indices)
    func `damaged kernels never trap`(index: Int) {
        let sample = Self.samples[index]
        let memory = TestMemory(megabytes: 4)
        var generator = SplitMix64(seed: 0x5eed + UInt64(index))
        var loaded = 0
        var refused = 0
        for _ in 0..<3000 {
            var bytes = sample.bytes
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let offset = Int.random(
                    in: 0..<min(sample.headers, bytes.count), using: &generator)
                // Extremes find more than noise does.
                let value = [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255, using: &generator)]
                bytes[offset] = value.randomElement(using: &generator) ?? 0
            }
            if Int.random(in: 0..<4, using: &generator) == 0 {
                let count = Int.random(in: 0...bytes.count, using: &generator)
                bytes.removeLast(bytes.count - count)
            }
            if let error = bootError(bytes, into: memory) {
                refused += 1
                #expect(!error.description.isEmpty)
            } else {
                loaded += 1
            }
        }
        #expect(loaded > 0 && refused > 0, "\(sample.name): \(loaded) loaded, \(refused) refused")
    }

    @Test func `noise is no kernel`() {
        let memory = TestMemory(megabytes: 4)
        var generator = SplitMix64(seed: 0x0dd)
        for _ in 0..<500 {
            let count = Int.random(in: 0...10000, using: &generator)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            #expect(bootError(bytes, into: memory) == .unknownFormat(path: "kernel"))
        }
    }
}
