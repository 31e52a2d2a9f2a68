import X86

/// IN, OUT, INS, OUTS (SDM Vol. 1 chapter 18).
enum PortInstructions {
    /// The port is DX where `Op.code` is 1, the immediate otherwise.
    private static func port(_ core: Core, _ op: OpRef) -> UInt16 {
        op.code == 1
            ? core[UInt16(GeneralRegister.rdx.rawValue) &* 8]
            : UInt16(truncatingIfNeeded: op.immediate & 0xff)
    }

    static let input: Handler = {
        plain($0, $1) { core, op in
            let port = port(core, op)
            guard permits(core, port, op.width) else { return .fault }
            store(core, op, read(core, port, op.width))
            return .next
        }
    }

    static let output: Handler = {
        plain($0, $1) { core, op in
            let port = port(core, op)
            guard permits(core, port, op.width) else { return .fault }
            let mask: UInt32 = op.width == 1 ? 0xff : op.width == 2 ? 0xffff : .max
            write(core, port, op.width, core[0, as: UInt32.self] & mask)
            return .next
        }
    }

    static let inputString: Handler = {
        plain($0, $1) { core, op in
            let size = UInt64(op.width)
            let delta = core.directionFlag ? 0 &- size : size
            return StringInstruction.perform(core, op, bulk: { _ in 0 }) {
                let port = core[UInt16(GeneralRegister.rdx.rawValue) &* 8, as: UInt16.self]
                let offset = StringInstruction.offset(core, .rdi, op)
                // A port read cannot be taken back: the write must be known to succeed first.
                guard permits(core, port, op.width),
                    let target = core.linearAddress(.es, offset, size: size, write: true),
                    core.processor.probe(target, size: Int(size), write: true)
                else { return .failed }
                let value = read(core, port, op.width)
                let done: Bool
                switch op.width {
                case 1: done = core.write(UInt8(truncatingIfNeeded: value), linear: target)
                case 2: done = core.write(UInt16(truncatingIfNeeded: value), linear: target)
                default: done = core.write(value, linear: target)
                }
                guard done else { return .failed }
                StringInstruction.advance(core, .rdi, op, delta)
                return .more
            }
        }
    }

    static let outputString: Handler = {
        plain($0, $1) { core, op in
            let size = UInt64(op.width)
            let delta = core.directionFlag ? 0 &- size : size
            return StringInstruction.perform(core, op, bulk: { _ in 0 }) {
                let port = core[UInt16(GeneralRegister.rdx.rawValue) &* 8, as: UInt16.self]
                let offset = StringInstruction.offset(core, .rsi, op)
                guard permits(core, port, op.width),
                    let source = core.linearAddress(
                        op.segment, offset, size: size, write: false)
                else { return .failed }
                let value: UInt32?
                switch op.width {
                case 1: value = core.read(UInt8.self, linear: source).map { UInt32($0) }
                case 2: value = core.read(UInt16.self, linear: source).map { UInt32($0) }
                default: value = core.read(UInt32.self, linear: source)
                }
                guard let value else { return .failed }
                write(core, port, op.width, value)
                StringInstruction.advance(core, .rsi, op, delta)
                return .more
            }
        }
    }

    private static func store(_ core: Core, _ op: OpRef, _ value: UInt32) {
        switch op.width {
        case 1: core[0] = UInt8(truncatingIfNeeded: value)
        case 2: core[0] = UInt16(truncatingIfNeeded: value)
        default: core[0] = UInt64(value)
        }
    }

    private static func read(_ core: Core, _ port: UInt16, _ width: UInt8) -> UInt32 {
        core.notePortAccess(port, size: Int(width))
        core.processor.statistics.deviceAccesses += 1
        // Interrupt lines may have changed: they are looked at before the next instruction.
        core.leaveBlock()
        return core.processor.platform.readPort(port, size: Int(width))
    }

    private static func write(_ core: Core, _ port: UInt16, _ width: UInt8, _ value: UInt32) {
        core.notePortAccess(port, size: Int(width))
        core.processor.statistics.deviceAccesses += 1
        core.leaveBlock()
        core.processor.platform.writePort(port, size: Int(width), value: value)
    }

    /// IOPL, or else the TSS's I/O permission bitmap (SDM Vol. 1 §18.5); raises #GP(0).
    private static func permits(_ core: Core, _ port: UInt16, _ width: UInt8) -> Bool {
        if !core.isProtected { return true }
        if core.state.cpl <= core.ioPrivilegeLevel && !core.isVirtual8086 { return true }
        return permitsByMap(core, port, width)
    }

    private static func permitsByMap(_ core: Core, _ port: UInt16, _ width: UInt8) -> Bool {
        let task = core.state.taskRegister
        // Only a 32- or 64-bit TSS has a map; its offset stands at byte 102.
        guard task.type & 8 != 0, task.limit >= 103 else {
            return core.failed(core.generalProtection())
        }
        guard let map = core.readSystem(UInt16.self, linear: task.base &+ 102) else {
            return false
        }
        let offset = UInt64(map) &+ UInt64(port >> 3)
        // Two bytes are read, always: a map ends with a byte of ones.
        guard offset &+ 1 <= UInt64(task.limit) else {
            return core.failed(core.generalProtection())
        }
        guard let bits = core.readSystem(UInt16.self, linear: task.base &+ offset) else {
            return false
        }
        let wanted = (UInt16(1) << UInt16(width)) &- 1
        guard bits >> (port & 7) & wanted == 0 else {
            return core.failed(core.generalProtection())
        }
        return true
    }
}
