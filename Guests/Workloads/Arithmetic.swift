/// Workloads that cost memory virtualization next to nothing: what an engine makes of instructions.
enum Arithmetic {
    /// 16 KiB are hashed byte by byte with a table, then 512 words of them sorted: `times` times.
    static func integer(_ times: Int, _ gate: Gate) -> UInt64 {
        let memory = Memory(pages: 6)
        let table = 4 * Memory.wordsPerPage
        let words = 5 * Memory.wordsPerPage
        for byte in 0..<256 as Range<UInt64> {
            // The table of CRC-32, bit by bit.
            var value = byte
            for _ in 0..<8 { value = value & 1 == 0 ? value >> 1 : value >> 1 ^ 0xedb8_8320 }
            memory[table + Int(byte)] = value
        }
        var checksum = Checksum()
        var state = UInt64(gate.worker) &+ 1
        gate.pass()
        for _ in 0..<times {
            var hash: UInt64 = 0xffff_ffff
            for word in 0..<table {
                // Marsaglia's xorshift.
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                memory[word] = state
            }
            for byte in 0..<table * 8 {
                let index = (hash ^ UInt64(memory[byte: byte])) & 0xff
                hash = hash >> 8 ^ memory[table + Int(index)]
            }
            for word in 0..<512 { memory[words + word] = memory[word] }
            sort(memory, words, 512)
            checksum.add(hash)
            checksum.add(memory[words + 256])
        }
        return checksum.value
    }

    /// Sorts words in ascending order with Shell's method.
    private static func sort(_ memory: Memory, _ first: Int, _ count: Int) {
        var gap = count / 2
        while gap > 0 {
            for index in gap..<count {
                let word = memory[first + index]
                var place = index
                while place >= gap, memory[first + place - gap] > word {
                    memory[first + place] = memory[first + place - gap]
                    place -= gap
                }
                memory[first + place] = word
            }
            gap /= 2
        }
    }

    /// A vector of 4096 single-precision numbers, in the first-level cache, is multiplied and added
    /// to by four numbers at a time: `times` times.
    static func vector(_ times: Int, _ gate: Gate) -> UInt64 {
        let memory = Memory(pages: 4)
        for word in 0..<4 * Memory.wordsPerPage { memory[word] = 0x3f80_0000_3f80_0000 }
        var checksum = Checksum()
        gate.pass()
        for _ in 0..<times {
            for index in 0..<1024 {
                memory[vector: index] = memory[vector: index] * 0.999 + 0.001_953_125
            }
        }
        for word in 0..<4 * Memory.wordsPerPage { checksum.add(memory[word]) }
        return checksum.value
    }

    /// A sum of quotients in extended precision: `thousands` times a thousand terms. In assembly:
    /// Swift has no numbers of that precision for a target without an operating system.
    static func x87(_ thousands: Int, _ gate: Gate) -> UInt64 {
        var checksum = Checksum()
        gate.pass()
        for _ in 0..<thousands { checksum.add(sumOfQuotients(1000)) }
        return checksum.value
    }

    @_extern(c, "workloads_sum_of_quotients")
    private static func sumOfQuotients(_ terms: Int) -> UInt64

    /// `mebibytes` are copied, from one 64 KiB to another, and filled: the string instructions.
    static func copy(_ mebibytes: Int, _ gate: Gate) -> UInt64 {
        let source = Memory(pages: 16)
        let target = Memory(pages: 16)
        var checksum = Checksum()
        gate.pass()
        for part in 0..<mebibytes * 16 {
            source.fill(with: UInt8(truncatingIfNeeded: part))
            source[part % (source.size / 8)] = UInt64(part)
            target.copy(source)
            checksum.add(target[part % (target.size / 8)])
        }
        return checksum.value
    }
}
