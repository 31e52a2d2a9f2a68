/// Host registers by number, in the order of their encoding.
package enum HostRegister {
    package static let rax: UInt8 = 0
    package static let rcx: UInt8 = 1
    package static let rdx: UInt8 = 2
    package static let rbx: UInt8 = 3
    package static let rsp: UInt8 = 4
    package static let rbp: UInt8 = 5
    package static let rsi: UInt8 = 6
    package static let rdi: UInt8 = 7
    /// Added to a register's number 0…3: its second byte, AH to BH.
    package static let highByte: UInt8 = 0x20
}

/// An operand that ModRM encodes.
package enum HostOperand: Sendable {
    case register(UInt8)
    case memory(base: UInt8, index: UInt8?, scale: UInt8, displacement: Int32)

    package static func at(_ base: UInt8, _ displacement: Int32 = 0) -> HostOperand {
        .memory(base: base, index: nil, scale: 0, displacement: displacement)
    }
}

/// An encoding: the opcode and what its operands are.
package struct HostEncoding: Sendable {
    /// 0: the one-byte map, 1: 0F, 2: 0F 38, 3: 0F 3A.
    var map: UInt8 = 0
    /// F2 or F3 where it is part of the opcode.
    var prefix: UInt8 = 0
    var opcode: UInt8
    /// Whether the register of ModRM's reg field, and of rm, is a byte register.
    var byteReg = false
    var byteRM = false

    package init(
        map: UInt8 = 0, opcode: UInt8, prefix: UInt8 = 0, byteReg: Bool = false,
        byteRM: Bool = false
    ) {
        self.map = map
        self.prefix = prefix
        self.opcode = opcode
        self.byteReg = byteReg
        self.byteRM = byteRM
    }

    package static let moveToRegister = HostEncoding(opcode: 0x8b)
    package static let moveFromRegister = HostEncoding(opcode: 0x89)
    package static let loadAddress = HostEncoding(opcode: 0x8d)
    package static let test = HostEncoding(opcode: 0x85)
    package static let testByte = HostEncoding(opcode: 0x84, byteReg: true, byteRM: true)
    package static let group5 = HostEncoding(opcode: 0xff)
    package static let zeroExtendByte = HostEncoding(map: 1, opcode: 0xb6, byteRM: true)
    package static let moveImmediate = HostEncoding(opcode: 0xc7)
}

/// Appends host instructions to a buffer (SDM Vol. 2A chapter 2).
package struct Assembler {
    package private(set) var code: [UInt8] = []
    /// The host address at which the buffer's first byte will run.
    var origin: UInt = 0

    package init() {}

    var count: Int { code.count }
    /// The address of the next byte.
    var address: UInt { origin &+ UInt(code.count) }

    mutating func begin(at origin: UInt) {
        self.origin = origin
        code.removeAll(keepingCapacity: true)
    }

    mutating func bytes(_ bytes: UInt8...) { code += bytes }
    mutating func append(_ bytes: some Sequence<UInt8>) { code += bytes }

    mutating func imm32(_ value: Int32) {
        let value = UInt32(bitPattern: value)
        for byte in 0..<4 { code.append(UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))) }
    }

    mutating func imm64(_ value: UInt64) {
        for byte in 0..<8 { code.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * byte))) }
    }

    /// An instruction with ModRM.
    /// - Parameters:
    ///   - reg: the reg field's register, or the extension of the opcode.
    ///   - wide: 64-bit operands. `narrow`: 16-bit ones.
    /// - Returns: false, with nothing appended, where the second byte of a register meets something
    ///   that needs REX.
    @discardableResult
    package mutating func instruction(
        _ encoding: HostEncoding, _ reg: UInt8, _ rm: HostOperand, wide: Bool = true,
        narrow: Bool = false
    ) -> Bool {
        var rex: UInt8 = wide ? 0x48 : 0
        var field = reg
        var hasHigh = false
        if encoding.byteReg {
            if reg & HostRegister.highByte != 0 {
                hasHigh = true
                field = reg & 3 | 4
            } else if reg >= 4 {
                rex |= 0x40
            }
        }
        if field >= 8 { rex |= 0x44 }
        var low: UInt8 = 0
        switch rm {
        case .register(let register):
            low = register
            if encoding.byteRM {
                if register & HostRegister.highByte != 0 {
                    hasHigh = true
                    low = register & 3 | 4
                } else if register >= 4 {
                    rex |= 0x40
                }
            }
            if low >= 8 { rex |= 0x41 }
        case .memory(let base, let index, _, _):
            if base >= 8 { rex |= 0x41 }
            if let index, index >= 8 { rex |= 0x42 }
        }
        if hasHigh && rex != 0 { return false }
        if narrow { code.append(0x66) }
        if encoding.prefix != 0 { code.append(encoding.prefix) }
        if rex != 0 { code.append(rex) }
        if encoding.map != 0 { code.append(0x0f) }
        if encoding.map >= 2 { code.append(encoding.map == 2 ? 0x38 : 0x3a) }
        code.append(encoding.opcode)
        switch rm {
        case .register: code.append(0xc0 | (field & 7) << 3 | low & 7)
        case .memory(let base, let index, let scale, let displacement):
            memory(field & 7, base, index, scale, displacement)
        }
        return true
    }

    private mutating func memory(
        _ field: UInt8, _ base: UInt8, _ index: UInt8?, _ scale: UInt8, _ displacement: Int32
    ) {
        let mod: UInt8
        if displacement == 0 && base & 7 != 5 {
            mod = 0
        } else if Int8(exactly: displacement) != nil {
            mod = 0x40
        } else {
            mod = 0x80
        }
        if let index {
            code.append(mod | field << 3 | 4)
            code.append(scale << 6 | (index & 7) << 3 | base & 7)
        } else if base & 7 == 4 {
            code.append(mod | field << 3 | 4)
            code.append(0x24)
        } else {
            code.append(mod | field << 3 | base & 7)
        }
        if mod == 0x40 {
            code.append(UInt8(truncatingIfNeeded: displacement))
        } else if mod == 0x80 {
            imm32(displacement)
        }
    }

    // MARK: Moves that leave the flags alone

    /// MOV of 64 bits between registers.
    mutating func move(_ to: UInt8, _ from: UInt8) {
        if to != from { instruction(.moveToRegister, to, .register(from)) }
    }
    mutating func load(_ register: UInt8, _ from: HostOperand) {
        instruction(.moveToRegister, register, from)
    }
    mutating func store(_ register: UInt8, _ to: HostOperand) {
        instruction(.moveFromRegister, register, to)
    }
    mutating func lea(_ register: UInt8, _ operand: HostOperand) {
        instruction(.loadAddress, register, operand)
    }

    /// MOV of a constant, in the shortest form.
    package mutating func constant(_ register: UInt8, _ value: UInt64) {
        let rexB: UInt8 = register >= 8 ? 1 : 0
        if value >> 32 == 0 {
            if rexB != 0 { code.append(0x41) }
            code.append(0xb8 | register & 7)
            imm32(Int32(truncatingIfNeeded: value))
        } else if let value = Int32(exactly: Int64(bitPattern: value)) {
            instruction(.moveImmediate, 0, .register(register))
            imm32(value)
        } else {
            bytes(0x48 | rexB, 0xb8 | register & 7)
            imm64(value)
        }
    }

    /// PEXT: the bits of `source` that the mask in memory picks (VEX.LZ.F3.0F38.W1 F5 /r).
    package mutating func extract(_ register: UInt8, _ source: UInt8, mask: HostOperand) {
        scatter(register, source, mask, prefix: 2)
    }

    /// PDEP: the low bits of `source`, put where the mask in memory has bits
    /// (VEX.LZ.F2.0F38.W1 F5 /r).
    package mutating func deposit(_ register: UInt8, _ source: UInt8, mask: HostOperand) {
        scatter(register, source, mask, prefix: 3)
    }

    private mutating func scatter(
        _ register: UInt8, _ source: UInt8, _ mask: HostOperand, prefix: UInt8
    ) {
        guard case .memory(let base, let index, let scale, let displacement) = mask else { return }
        let r: UInt8 = register < 8 ? 0x80 : 0
        let x: UInt8 = (index ?? 0) < 8 ? 0x40 : 0
        let b: UInt8 = base < 8 ? 0x20 : 0
        bytes(0xc4, r | x | b | 2, 0x80 | (~source & 15) << 3 | prefix, 0xf5)
        memory(register & 7, base, index, scale, displacement)
    }

    /// RORX of 64 bits (VEX.LZ.F2.0F3A.W1 F0 /r ib).
    package mutating func rotate(_ register: UInt8, _ source: UInt8, by count: UInt8) {
        let r: UInt8 = register < 8 ? 0x80 : 0
        let b: UInt8 = source < 8 ? 0x20 : 0
        bytes(0xc4, r | 0x40 | b | 3, 0xfb, 0xf0, 0xc0 | (register & 7) << 3 | source & 7, count)
    }

    // MARK: Flags

    /// AH := SF ZF AF PF CF, AL := OF.
    mutating func saveFlags() { bytes(0x9f, 0x0f, 0x90, 0xc0) }
    /// The reverse; AL is lost.
    mutating func restoreFlags() { bytes(0x04, 0x7f, 0x9e) }

    // MARK: Control

    /// JMP or (opcode 0xe8) CALL to an address.
    mutating func jump(to target: UInt, opcode: UInt8 = 0xe9) {
        code.append(opcode)
        imm32(distance(to: target))
    }

    /// JMP with a distance to be filled in.
    /// - Returns: where it lies.
    mutating func jump() -> Int {
        bytes(0xe9, 0, 0, 0, 0)
        return code.count - 4
    }

    /// Jcc with a distance to be filled in.
    mutating func jump(if condition: UInt8) -> Int {
        bytes(0x0f, 0x80 | condition & 15, 0, 0, 0, 0)
        return code.count - 4
    }

    /// Jcc over what follows.
    mutating func jumpShort(if condition: UInt8) -> Int {
        bytes(0x70 | condition & 15, 0)
        return code.count - 1
    }

    /// JMP to a position in the buffer that is near.
    mutating func jumpShort(to position: Int) {
        bytes(0xeb, UInt8(truncatingIfNeeded: position - code.count - 2))
    }

    /// JRCXZ over what follows.
    mutating func jumpIfRCXZero() -> Int {
        bytes(0xe3, 0)
        return code.count - 1
    }

    /// Makes the short jump whose distance lies at `place` lead here.
    mutating func bindShort(_ place: Int) {
        code[place] = UInt8(truncatingIfNeeded: code.count - place - 1)
    }

    /// Makes the jump whose distance lies at `place` lead to `position` in the buffer: here.
    mutating func bind(_ place: Int, to position: Int? = nil) {
        let distance = UInt32(
            truncatingIfNeeded: (position ?? code.count) - place - 4)
        for byte in 0..<4 {
            code[place + byte] = UInt8(truncatingIfNeeded: distance >> UInt32(8 * byte))
        }
    }

    /// Makes the jump whose distance lies at `place` lead to an address.
    mutating func bind(_ place: Int, toAddress target: UInt) {
        bind(place, to: Int(bitPattern: target &- origin))
    }

    private func distance(to target: UInt) -> Int32 {
        Int32(truncatingIfNeeded: Int(bitPattern: target &- address) &- 4)
    }
}
