import MachineMemory
import Processor
import Testing
import X86

/// Repeated SCAS and CMPS against their definition, element by element.
@Suite struct ScanTests {
    private static let area: UInt64 = 0x10_0000
    private static let areaBytes = 0x10000

    @Test("repeated scans and comparisons end where their elements say", arguments: 1...8)
    func scans(seed: Int) throws {
        let machine = try BareMachine()
        var random = SeededGenerator(seed: UInt64(seed))
        // Long runs of one value, with others here and there.
        var bytes = [UInt8](repeating: 7, count: Self.areaBytes)
        for _ in 0..<16 { bytes[Int(random.next() % 0x10000)] = UInt8(random.next() & 15) }
        machine.store(bytes, at: Self.area)
        func element(_ offset: Int, _ size: Int) -> UInt64 {
            (0..<size).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
        }
        for _ in 0..<60 {
            let size = 1 << Int(random.next() & 3)
            let isComparison = random.next() & 1 == 0
            let goesOnWhileEqual = random.next() & 3 != 0
            let isDown = random.next() & 7 == 0
            let count = Int(random.next() % 3000) + 1
            let start = isDown ? 3000 * 8 : 0
            let from = start + Int(random.next() % 0x8000)
            let to = start + Int(random.next() % 0x8000)
            let step = isDown ? -size : size
            let value = random.next() & 3 == 0 ? 0 : 0x0707_0707_0707_0707 as UInt64
            machine.processor.flags = RFLAGS.alwaysOne | (isDown ? RFLAGS.direction : 0)
            machine.processor[.rcx] = UInt64(count)
            machine.processor[.rsi] = Self.area + UInt64(from)
            machine.processor[.rdi] = Self.area + UInt64(to)
            machine.processor[.rax] = value
            var code: [UInt8] = size == 2 ? [0x66] : []
            code.append(goesOnWhileEqual ? 0xf3 : 0xf2)
            if size == 8 { code.append(0x48) }
            code.append((isComparison ? 0xa6 : 0xae) | (size == 1 ? 0 : 1))
            #expect(machine.run(code, count: 1) == .limit)
            var done = 0
            var (first, second): (UInt64, UInt64) = (0, 0)
            while done < count {
                first =
                    isComparison
                    ? element(from + done * step, size)
                    : value & (size == 8 ? .max : 1 << UInt64(8 * size) - 1)
                second = element(to + done * step, size)
                done += 1
                if (first == second) != goesOnWhileEqual { break }
            }
            let moved = UInt64(bitPattern: Int64(done * step))
            #expect(machine.processor[.rcx] == UInt64(count - done), "\(code)")
            #expect(machine.processor[.rdi] == Self.area + UInt64(to) &+ moved)
            #expect(
                machine.processor[.rsi]
                    == Self.area + UInt64(from) &+ (isComparison ? moved : 0))
            #expect((machine.processor.flags & RFLAGS.zero != 0) == (first == second))
            #expect((machine.processor.flags & RFLAGS.carry != 0) == (first < second))
        }
    }
}
