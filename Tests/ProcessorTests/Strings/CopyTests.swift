import MachineMemory
import Processor
import Testing
import X86

/// REP MOVS and REP STOS against their definition, element by element, with overlaps, page
/// boundaries, both directions and both address sizes.
@Suite struct CopyTests {
    /// A xorshift generator: the same cases in every run.
    private struct Random {
        var state: UInt64
        mutating func below(_ bound: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state % bound
        }
    }

    private static let area: UInt64 = 0x10_0000
    private static let areaBytes = 0x4000

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `repeated copies and fills do what their elements do`(seed: UInt64) throws {
        let machine = try BareMachine()
        var random = Random(state: seed &* 0x9e37_79b9_7f4a_7c15)
        var model = [UInt8](repeating: 0, count: Self.areaBytes)
        for index in model.indices { model[index] = UInt8(truncatingIfNeeded: random.below(256)) }
        machine.store(model, at: Self.area)
        for _ in 0..<60 {
            let size = 1 << Int(random.below(4))
            let isCopy = random.below(3) != 0
            let isDown = random.below(4) == 0
            let isNarrow = random.below(3) == 0
            let count = Int(random.below(700))
            let step = isDown ? -size : size
            let room = UInt64(Self.areaBytes - 700 * 8)
            var from = Int(random.below(room))
            // Half of the copies overlap closely.
            var to =
                random.below(2) == 0
                ? min(from + Int(random.below(24)), Int(room)) : Int(random.below(room))
            if isDown {
                from += 700 * 8 - 8
                to += 700 * 8 - 8
            }
            let value = random.below(.max)
            machine.processor.flags = RFLAGS.alwaysOne | (isDown ? RFLAGS.direction : 0)
            machine.processor[.rcx] = UInt64(count)
            machine.processor[.rsi] = Self.area + UInt64(from)
            machine.processor[.rdi] = Self.area + UInt64(to)
            machine.processor[.rax] = value
            var code: [UInt8] = isNarrow ? [0x67, 0xf3] : [0xf3]
            if size == 2 { code.insert(0x66, at: 0) }
            if size == 8 { code.append(0x48) }
            code.append((isCopy ? 0xa4 : 0xaa) | (size == 1 ? 0 : 1))
            #expect(machine.run(code, count: 1) == .limit)
            for index in 0..<count {
                let target = to + index * step
                let source = from + index * step
                let element: [UInt8] =
                    isCopy
                    ? Array(model[source..<source + size])
                    : (0..<size).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
                model.replaceSubrange(target..<target + size, with: element)
            }
            let memory = machine.memory.read(
                at: MachineAddress(Self.area), count: Self.areaBytes)
            try #require(memory == model, "\(code) count \(count) from \(from) to \(to)")
            #expect(machine.processor[.rcx] == 0)
            let moved = UInt64(bitPattern: Int64(count * step))
            #expect(machine.processor[.rdi] == Self.area + UInt64(to) &+ moved)
            let source = Self.area + UInt64(from) &+ (isCopy ? moved : 0)
            #expect(machine.processor[.rsi] == source)
        }
    }
}
