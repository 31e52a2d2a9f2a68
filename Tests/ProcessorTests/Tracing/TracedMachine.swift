import MachineMemory
import Processor
import X86

/// A `BareMachine` whose tables serve as shadow tables, with the structures of the traced-write
/// facility in its upper memory.
///
/// ```
///  linear = machine by 2 MiB pages, A and D set; linear 0xe00000 is machine 0x400000, too
///  0x400000 the traced page, by 4 KiB entries       0xa00000 ring      0xa80000 common
///  0xa81000 roots      0xb00000 map of frames       0xc00000 masks
/// ```
struct TracedMachine {
    static let page: UInt64 = 0x40_0000
    static let alias: UInt64 = 0xe0_0000
    static let ring: UInt64 = 0xa0_0000
    static let common: UInt64 = 0xa8_0000
    static let roots: UInt64 = 0xa8_1000
    static let frameMap: UInt64 = 0xb0_0000
    static let masks: UInt64 = 0xc0_0000

    let machine: BareMachine
    var processor: Processor { machine.processor }

    /// - Parameter isSmall: whether `page` is mapped by 4 KiB leaves, whose first two have T.
    init(
        _ format: TraceFormat = .address, indication: TraceIndication = .entry,
        isSmall: Bool = true
    ) throws {
        machine = try BareMachine()
        for page in 0..<8 as Range<UInt64> {
            let target = page == 7 ? 2 : page
            machine.memory.store(target << 21 | 0xe7, at: MachineAddress(0x3000 + page * 8))
        }
        if isSmall {
            let first = Self.page | 0x67
            let traced = indication == .entry ? PagingEntry.tracedBit : 0
            machine.mapSmall([
                first | traced, first + 0x1000 | traced, first + 0x2000, first + 0x3000,
            ])
        }
        processor.control.paging = .shadow(root: MachineAddress(0x1000))
        processor.control.trace = Self.controls(format, indication)
        processor.invalidateAll()
    }

    static func controls(_ format: TraceFormat, _ indication: TraceIndication) -> TraceControls {
        var trace = TraceControls()
        trace.isEnabled = true
        trace.indication = indication
        trace.format = format
        trace.base = MachineAddress(ring)
        trace.capacity = 512 * format.recordBytes
        trace.coalesce = 0
        trace.frames = 0..<0x1000
        trace.frameMap = MachineAddress(frameMap)
        trace.masks = MachineAddress(masks)
        trace.common = MachineAddress(common)
        trace.roots = MachineAddress(roots)
        return trace
    }

    func peek(_ address: UInt64) -> UInt64 {
        machine.memory.load(UInt64.self, at: MachineAddress(address)) ?? .max
    }

    func poke(_ address: UInt64, _ value: UInt64) {
        machine.memory.store(value, at: MachineAddress(address))
    }

    /// Sets or clears the bit of the frame at an address, without an invalidation.
    func trace(_ address: UInt64, _ isTraced: Bool = true) {
        let place = Self.frameMap + (address >> 18) * 8
        let bit: UInt64 = 1 << (address >> 12 & 63)
        poke(place, isTraced ? peek(place) | bit : peek(place) & ~bit)
    }

    /// The quadwords of record `number`.
    func record(_ number: UInt64) -> [UInt64] {
        let words = processor.control.trace.format.recordBytes / 8
        return (0..<words).map { peek(Self.ring + (number * words + $0) * 8) }
    }

    /// The quadword of masks for the group of 64 quadwords around an address.
    func mask(_ address: UInt64) -> UInt64 {
        peek(Self.masks + (address >> 12) * 64 + (address >> 9 & 7) * 8)
    }

    /// MOV [address], RAX, EAX, AX or AL.
    static func store(_ size: Int, _ address: UInt64) -> [UInt8] {
        let opcode: [UInt8] =
            switch size {
            case 1: [0x88]
            case 2: [0x66, 0x89]
            case 4: [0x89]
            default: [0x48, 0x89]
            }
        return opcode + [0x04, 0x25] + bytes(UInt32(truncatingIfNeeded: address))
    }

    /// Executes the instructions and expects nothing to end the run before.
    func execute(_ instructions: [UInt8]...) -> Exit {
        machine.run(instructions.flatMap { $0 }, count: UInt64(instructions.count))
    }
}
