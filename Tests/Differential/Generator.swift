import CZydis
import X86

/// Makes cases of seeds.
package struct Generator {
    private var listings: [CodeSize: Listing] = [:]
    private var forms: [CodeSize: Forms] = [:]
    private var random = SplitMix64(seed: 0)

    package init() {
        for size in CodeSize.allCases {
            listings[size] = Listing(size)
            forms[size] = Forms(size)
        }
    }

    /// A state in which most instructions do something, with no code.
    static let plainCase: Case = {
        var generator = Generator(random: SplitMix64(seed: 1))
        var test = Case()
        generator.setState(&test)
        for index in 0..<16 { test.general[index] = 0 }
        test.general[4] = Area.stack + 0x9a8
        test.flags = 0x202
        generator.put(0x037f, 2, &test.extended, 0)
        generator.put(0x1f80, 4, &test.extended, 24)
        return test
    }()

    /// Without forms: it makes states only.
    private init(random: SplitMix64) { self.random = random }

    /// How many mnemonics the cases of a code size are made of.
    package func mnemonics(_ size: CodeSize) -> Int { forms[size]?.byMnemonic.count ?? 0 }

    /// The case of that number in the campaign of a seed.
    package mutating func make(seed: UInt64, number: UInt64) -> Case {
        random = SplitMix64(seed: seed &* 0x9e37_79b9_7f4a_7c15 &+ number)
        var test = Case()
        test.size = chance(30) ? .bits32 : .bits64
        guard let forms = forms[test.size], var listing = listings[test.size] else { return test }
        setState(&test)
        let length = chance(50) ? 1 : 2 + below(7)
        var pinned: UInt32 = 1 << 4
        var bytes = 0
        for _ in 0..<length * 3 where test.code.count < length {
            let group = forms.byMnemonic[below(forms.byMnemonic.count)]
            let form = group[below(group.count)]
            let code = instruction(
                form, &test, &pinned, at: Area.code + UInt64(bytes), &listing)
            guard let code, FlagFlow.undefined(test.code + [code], &listing) != nil else {
                continue
            }
            test.code.append(code)
            bytes += code.count
        }
        setTargets(&test, &listing)
        return test
    }

    private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(max(bound, 1))) }
    private mutating func chance(_ percent: UInt64) -> Bool { random.next() % 100 < percent }

    /// One instruction of a form; nil where the choices make another that is not allowed.
    private mutating func instruction(
        _ form: Forms.Form, _ test: inout Case, _ pinned: inout UInt32, at place: UInt64,
        _ listing: inout Listing
    ) -> [UInt8]? {
        var form = form
        var rex: UInt8 = 0
        let is64 = test.size == .bits64
        if is64 && chance(60) { rex = 0x40 | UInt8(below(16)) }
        var extra: [UInt8] = []
        if chance(25) {
            let choices: [UInt8] = [
                0x64, 0x65, 0x67, 0x67, 0x66, 0xf0, 0xf0, 0xf2, 0xf3, 0x3e, 0x2e, 0x26, 0x36,
            ]
            for _ in 0..<1 + below(3) { extra.append(choices[below(choices.count)]) }
        }
        if chance(1) { extra += [UInt8](repeating: 0x2e, count: 4 + below(8)) }
        var address: [UInt8] = []
        let isMemory = form.hasModRM && form.modRM < 0xc0
        let target = spot()
        if isMemory {
            (form.modRM, address) = self.address(form.modRM >> 3 & 7, target, is64)
        }
        let immediate = (0..<form.immediate).map { _ in UInt8(truncatingIfNeeded: edge()) }
        let vvvv = form.space == .vex && chance(60) ? UInt8(below(16)) : 0
        var code = form.bytes(rex: rex, vvvv: is64 ? vvvv : vvvv & 7, extra: extra)
        if form.space == .vex && !is64 { code[extra.count + 1] |= 0xc0 }
        code += address + immediate
        // A wider immediate than the form's first one, where W or a prefix made it so.
        let padded = code + (0..<8).map { _ in UInt8(truncatingIfNeeded: edge()) }
        guard let facts = listing.facts(padded) else {
            return nil
        }
        guard Forms.isAllowed(facts), Forms.isPortable(padded, facts, test.size) else { return nil }
        code = Array(padded.prefix(facts.length))
        guard isDefined(facts) else { return nil }
        if isMemory && facts.hasMemory { aim(&code, facts, target, place, &test, &pinned) }
        return code
    }

    /// Whether the result is the same on every processor.
    private func isDefined(_ facts: Listing.Facts) -> Bool {
        switch facts.mnemonic {
        case ZYDIS_MNEMONIC_BSWAP: !facts.hasOperandPrefix
        case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD: facts.operandWidth > 16
        default: !(facts.isRelative && facts.hasOperandPrefix)
        }
    }

    /// Makes the operand lie at `target`: by the displacement, or by the base's value.
    private mutating func aim(
        _ code: inout [UInt8], _ facts: Listing.Facts, _ target: UInt64, _ place: UInt64,
        _ test: inout Case, _ pinned: inout UInt32
    ) {
        var wanted = target
        if facts.isBased && test.size == .bits64 { wanted &-= Area.fs }
        if facts.base == 16 || facts.base == nil {
            guard facts.displacement.bytes == 4 else { return }
            if facts.base == 16 { wanted &-= place &+ UInt64(facts.length) }
            if let index = facts.index { wanted &-= test.general[index] &* facts.scale }
            for byte in 0..<4 {
                code[facts.displacement.offset + byte] = UInt8(
                    truncatingIfNeeded: wanted >> UInt64(byte * 8))
            }
        } else if let base = facts.base, pinned & 1 << UInt32(base) == 0 {
            wanted &-= facts.offset
            if let index = facts.index, index != base {
                wanted &-= test.general[index] &* facts.scale
                pinned |= 1 << UInt32(index)
            }
            if facts.addressWidth == 32 {
                wanted = wanted & 0xffff_ffff | random.next() << 32
            }
            test.general[base] = wanted
            pinned |= 1 << UInt32(base)
        }
    }

    /// ModRM and what follows it, for an address: absolute, relative to RIP, or with registers.
    private mutating func address(
        _ reg: UInt8, _ target: UInt64, _ is64: Bool
    ) -> (UInt8, [UInt8]) {
        let wide = (0..<4).map { UInt8(truncatingIfNeeded: target >> ($0 * 8)) }
        switch below(10) {
        case 0...2: return is64 ? (reg << 3 | 4, [0x25] + wide) : (reg << 3 | 5, wide)
        case 3: return (reg << 3 | 5, wide)
        default:
            let mod = UInt8(below(3))
            let rm = UInt8(below(8))
            var tail: [UInt8] = []
            if rm == 4 { tail.append(UInt8(below(256))) }
            let isBare = mod == 0 && (rm == 5 || rm == 4 && tail[0] & 7 == 5)
            let bytes = mod == 1 ? 1 : mod == 2 || isBare ? 4 : 0
            tail += (0..<bytes).map { _ in UInt8(truncatingIfNeeded: edge()) }
            return (mod << 6 | reg << 3 | rm, tail)
        }
    }

    /// An address of an operand: inside pages, at their ends, across them, where nothing may be
    /// written, where nothing is.
    private mutating func spot() -> UInt64 {
        let near = UInt64(below(70))
        switch below(16) {
        case 0...6: return Area.data + random.next() % 0x1fc0 & ~63
        case 7, 8: return Area.data + random.next() % 0x1fc0
        case 9, 10: return Area.data + 0x1000 &- near
        case 11, 12: return Area.data + 0x2000 &- near
        case 13: return Area.constant + 0x1000 &- near
        case 14: return Area.constant + random.next() % 0xfc0 & ~31
        default: return Area.data &- near
        }
    }

    private mutating func edge() -> UInt64 {
        let edges: [UInt64] = [
            0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000,
            0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, .max, 31, 32, 63, 64,
        ]
        return chance(50) ? edges[below(edges.count)] : random.next()
    }

    /// A pattern of which floating-point code makes something.
    private mutating func number() -> UInt64 {
        let special: [UInt64] = [
            0, 0x8000_0000_0000_0000, 0x7ff0_0000_0000_0000, 0x7ff8_0000_0000_0000,
            0x7ff4_0000_0000_0000, 1, 0x7f80_0000_ff80_0000, 0x7fc0_0000_7fa0_0000,
        ]
        switch below(8) {
        case 0: return random.next()
        case 1: return Double(Int64(bitPattern: random.next()) >> 40).bitPattern
        case 2: return special[below(8)]
        case 3: return 0xc040_0000_3fc0_0000 &+ random.next() & 0x00ff_0000_00ff_0000
        case 4: return random.next() & 0x00ff_00ff_00ff_00ff
        case 5: return edge()
        case 6: return random.next() & 0x0000_00ff_0000_00ff
        default: return Double.random(in: -1e6...1e6, using: &random).bitPattern
        }
    }

    private mutating func setState(_ test: inout Case) {
        for index in 0..<16 { test.general[index] = chance(40) ? spot() : edge() }
        if chance(60) { test.general[1] = UInt64(below(20)) }
        test.general[4] =
            chance(85)
            ? Area.stack + 0x400 + UInt64(below(0x100)) * (chance(80) ? 8 : 1)
            : Area.stack + (chance(50) ? 0 : 0x1000) &+ UInt64(below(17)) &- 8
        test.flags = random.next() & RFLAGS.arithmetic | 0x202
        if chance(20) { test.flags |= 1 << 10 }
        for index in stride(from: 0, to: test.memory.count, by: 8) {
            put(number(), 8, &test.memory, index)
        }
        put(0x037f, 2, &test.extended, 0)
        if chance(50) { test.extended[1] = UInt8(below(16)) }
        if chance(20) { test.extended[0] = UInt8(0x40 | below(64)) }
        put(UInt64(below(8)) << 11 | UInt64(below(16)) << 8 & 0x4700, 2, &test.extended, 2)
        var mxcsr: UInt64 = 0x1f80
        if chance(50) { mxcsr |= random.next() & 0xe07f }
        // Underflow stays masked: see the differences that Docs/Differential.md names.
        if chance(15) { mxcsr &= ~(1 << ([7, 8, 9, 10, 12] as [UInt64])[below(5)]) }
        put(mxcsr, 4, &test.extended, 24)
        put(0xffff, 4, &test.extended, 28)
        for index in 0..<8 {
            if chance(75) { test.extended[4] |= 1 << UInt8(index) }
            let exponents: [UInt64] = [0, 0x7fff, 1, 0x3fff]
            let exponent = chance(20) ? exponents[below(4)] : 0x3ff0 + random.next() % 70
            let top: UInt64 = chance(95) && exponent != 0 ? 1 << 63 : 0
            put(chance(20) ? top : random.next() | top, 8, &test.extended, 32 + index * 16)
            put(exponent | random.next() & 0x8000, 2, &test.extended, 40 + index * 16)
        }
        for index in 0..<32 {
            put(number(), 8, &test.extended, 160 + index * 8)
            put(number(), 8, &test.extended, ExtendedLayout.upper + index * 8)
        }
        test.extended[512] = 7
    }

    private func put(_ value: UInt64, _ bytes: Int, _ array: inout [UInt8], _ offset: Int) {
        for byte in 0..<bytes {
            array[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8))
        }
    }

    /// Lets branches lead to a later instruction, or to the INT3 at the end.
    private mutating func setTargets(_ test: inout Case, _ listing: inout Listing) {
        for index in test.code.indices {
            guard let facts = listing.facts(test.code[index]), facts.isRelative else { continue }
            let skipped = below(test.code.count - index)
            let distance = test.code[(index + 1)...].prefix(skipped).reduce(0) { $0 + $1.count }
            for byte in 0..<facts.immediate.bytes {
                test.code[index][facts.immediate.offset + byte] = UInt8(
                    truncatingIfNeeded: byte < 4 ? distance >> (byte * 8) : 0)
            }
        }
    }
}
