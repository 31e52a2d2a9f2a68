import MachineMemory

/// The memory that translations lie in, and the code that they share: how they are entered and
/// left, and how they call the interpreter's handlers.
///
/// A translation is named by its distance from the start. It looks like this:
/// ```
///  -27  leave: RIP := the block's; exit                16 bytes
///  -11  far:   R10 = RIP; page RIP := R10 - offset     11 bytes
///    0  near:  charge the instructions; …
/// ```
/// Jumps within a page go to `near`, others to `far`. A block that is dropped has its `near`
/// overwritten by a jump to `leave`: whatever leads to it goes no further, until the code there has
/// a translation again, to which it then jumps.
@safe final class TranslationMemory {
    /// The ceiling of a machine's translations together, and the least of one processor's.
    static let machineCapacity = 64 << 20
    static let leastCapacity = 16 << 20
    /// Room that a block's translation never exceeds.
    static let blockRoom = 64 << 10
    static let leaveBytes = 16
    static let farBytes = 11

    /// The jump by which translated code was left last, if it was one that may be chained: until
    /// the run loop comes to some translation.
    var pending: Pending? {
        get { unsafe pendingJump.pointee }
        set { unsafe pendingJump.pointee = newValue }
    }
    /// Behind a pointer: a class's own properties are checked for exclusive access each time.
    private let pendingJump: UnsafeMutablePointer<Pending?>
    /// The last translation that was closed, by machine address and bank.
    private var closed: [UInt64: UInt32] = [:]
    private let code: ExecutableMemory
    private let shared: SharedCode
    private let sharedBytes: Int
    /// Where translations start.
    let base: UInt

    /// - Parameter processors: how many of the machine have translations of their own.
    /// - Returns: nil where the host forbids executable memory.
    init?(processors: Int) {
        guard
            let code = ExecutableMemory(
                capacity: max(Self.machineCapacity / max(processors, 1), Self.leastCapacity))
        else { return nil }
        self.code = code
        base = code.base
        unsafe pendingJump = .allocate(capacity: 1)
        unsafe pendingJump.initialize(to: nil)
        var assembler = Assembler()
        assembler.begin(at: code.nextAddress)
        shared = SharedCode(&assembler)
        guard code.append(assembler.code) != nil else { return nil }
        sharedBytes = code.used
    }

    deinit { unsafe pendingJump.deallocate() }

    var sharedCode: SharedCode { shared }
    var nextAddress: UInt { code.nextAddress }
    var hasRoom: Bool { code.used + Self.blockRoom <= code.capacity }
    /// How many bytes are taken.
    var used: Int { code.used }

    /// Appends a block's translation, whose `near` is `near` bytes from its start.
    /// - Returns: its name; 0 if it does not fit.
    func append(_ bytes: [UInt8], near: Int) -> UInt32 {
        guard let address = code.append(bytes) else { return 0 }
        return UInt32(truncatingIfNeeded: address &- base) &+ UInt32(near)
    }

    /// Where a translation is entered with RIP in R10.
    func far(_ translation: UInt32) -> UInt {
        base &+ UInt(translation) &- UInt(Self.farBytes)
    }

    /// Lets nothing enter the translation of a block at a machine address any more.
    func close(_ translation: UInt32, _ machine: UInt64, bank: Int) {
        let distance = Self.leaveBytes + Self.farBytes + 2
        code.replace([0xeb, UInt8(truncatingIfNeeded: -distance)], at: Int(translation))
        closed[machine << 2 | UInt64(bank)] = translation
    }

    /// Jumps that lead to the closed translation of a block at the same place lead to this one now:
    /// the block was written, and made anew.
    func succeed(_ translation: UInt32, _ machine: UInt64, bank: Int) {
        guard let former = closed.removeValue(forKey: machine << 2 | UInt64(bank)) else { return }
        code.replace([0xe9], at: Int(former))
        chain(UInt64(former) + 1, to: translation)
    }

    struct Pending {
        /// Where the jump's distance lies, from the start.
        var site: UInt64
        /// The machine address that it is to lead to, and the bank of its code.
        var target: UInt64
        var bank: Int
    }

    /// Makes the jump whose distance lies at `site` lead to a translation.
    func chain(_ site: UInt64, to translation: UInt32) {
        guard site < UInt64(code.used) else { return }
        let distance = UInt32(truncatingIfNeeded: Int(translation) - Int(site) - 4)
        code.replace(
            (0..<4).map { UInt8(truncatingIfNeeded: distance >> UInt32(8 * $0)) }, at: Int(site))
    }

    /// Forgets every translation. The bytes stay until others take their place, so the one that
    /// runs may go on to its next exit.
    func removeAll() {
        pending = nil
        closed.removeAll(keepingCapacity: true)
        code.removeAll(keeping: sharedBytes)
    }

    /// Runs translated code.
    /// - Returns: how it was left: a handler's status, or `Status.between`.
    @inline(__always)
    func enter(_ core: Core, _ far: UInt) -> Status {
        // The address is that of `SharedCode.enter`, which keeps to the C calling convention.
        let entry = unsafe unsafeBitCast(
            shared.enter, to: (@convention(c) (UInt, UInt) -> Int32).self)
        return Status(rawValue: entry(core.address, far))
    }
}

extension Status {
    /// Translated code was left between two blocks: RIP is set, nothing is pending.
    static let between = Status(rawValue: 4)
}

/// The code that translations share, by address.
struct SharedCode {
    /// C function: state, where to go with R10 = RIP; returns a status.
    private(set) var enter: UInt = 0
    /// Jumped to: leaves with RIP = R10.
    private(set) var exit: UInt = 0
    /// The same, asking for a chain: R11 is the site's distance from the start, RCX the
    /// machine address that it is to lead to.
    private(set) var exitToChain: UInt = 0
    /// Called: R10 is the op, R11 how many instructions of the block have not retired. Returns
    /// with RCX = 0 after the handler retired; otherwise with RCX = 1, and the caller jumps to
    /// `leave`. (A way out from here would leave the host's prediction of returns a call behind,
    /// and every function up to the run loop's caller would pay for it.) The first keeps the
    /// flags, for handlers that do not look at them; with the second handlers see and set them.
    private(set) var call: UInt = 0
    private(set) var callWithFlags: UInt = 0
    /// Jumped to after a handler's call that says so: leaves with the status in EAX.
    private(set) var leave: UInt = 0
    /// Called: bring vector state into host registers. RCX is 0 if that was done; the code must not
    /// run if not. RAX to R9, R12 to R15 and the flags stay.
    private(set) var bringXMM: UInt = 0
    private(set) var bringX87: UInt = 0
    /// Called in Swift's surroundings: what is in host registers goes to the state and comes back.
    /// The first loses RAX.
    private var putVectors: UInt = 0
    private var takeVectors: UInt = 0

    /// The state's flags as `Assembler.restoreFlags` takes them.
    private static let flagsToHost: Handler = { state, _ in
        let flags = Core(state).arithmeticFlags
        let low = (flags & 0xd5) << 8
        return Int32(truncatingIfNeeded: low | (flags & 0x800 != 0 ? 1 : 0))
    }

    /// Sets the state's flags from what `Assembler.saveFlags` leaves.
    private static let flagsFromHost: Handler = { state, word in
        let word = UInt64(word)
        Core(state).setArithmeticFlags(word >> 8 & 0xd5 | (word & 0xff != 0 ? 0x800 : 0))
        return 0
    }

    private static func address(_ function: Handler) -> UInt64 {
        UInt64(unsafe unsafeBitCast(function, to: UInt.self))
    }

    init(_ a: inout Assembler) {
        bringXMM = a.address
        VectorTransfer.bringXMM(&a)
        bringX87 = a.address
        VectorTransfer.bringX87(&a)
        putVectors = a.address
        VectorTransfer.put(&a)
        takeVectors = a.address
        VectorTransfer.take(&a)
        enter = a.address
        enterCode(&a)
        exitToChain = a.address
        a.store(GuestRegisters.second, StateField.chainSite)
        a.store(GuestRegisters.scratch, StateField.chainTarget)
        exit = a.address
        exitCode(&a)
        call = a.address
        callCode(&a, withFlags: false)
        callWithFlags = a.address
        callCode(&a, withFlags: true)
        leave = a.address
        leaveCode(&a)
    }

    private static let savedByCallee: [UInt8] = [3, 5, 12, 13, 14, 15]

    private func enterCode(_ a: inout Assembler) {
        for register in Self.savedByCallee { push(&a, register) }
        push(&a, HostRegister.rsi)
        a.lea(GuestRegisters.state, .at(HostRegister.rdi, Int32(GuestRegisters.bias)))
        callC(&a, Self.flagsToHost)
        a.restoreFlags()
        loadGuest(&a)
        a.load(GuestRegisters.first, StateField.rip)
        a.instruction(.group5, 4, .at(HostRegister.rsp), wide: false)
    }

    private func exitCode(_ a: inout Assembler) {
        a.store(GuestRegisters.first, StateField.rip)
        storeGuest(&a)
        a.saveFlags()
        a.bytes(0x0f, 0xb7, 0xf0)  // movzx esi, ax
        callIfVectors(&a, putVectors)
        callC(&a, Self.flagsFromHost)
        a.constant(HostRegister.rax, UInt64(Status.between.rawValue))
        leaveCode(&a)
    }

    /// The stack in a call: op, undone, flags, return address.
    private func callCode(_ a: inout Assembler, withFlags: Bool) {
        storeGuest(&a)
        a.saveFlags()
        a.bytes(0x0f, 0xb7, 0xf0)  // movzx esi, ax
        callIfVectors(&a, putVectors)
        a.lea(HostRegister.rsp, .at(HostRegister.rsp, -24))
        a.store(GuestRegisters.first, .at(HostRegister.rsp))
        a.store(GuestRegisters.second, .at(HostRegister.rsp, 8))
        if withFlags {
            callC(&a, Self.flagsFromHost)
            a.load(GuestRegisters.first, .at(HostRegister.rsp))
            a.load(GuestRegisters.second, .at(HostRegister.rsp, 8))
        } else {
            a.store(HostRegister.rsi, .at(HostRegister.rsp, 16))
        }
        // retired = limit - remaining - undone
        a.load(HostRegister.rcx, StateField.runLimit)
        a.instruction(HostEncoding(opcode: 0x2b), HostRegister.rcx, StateField.remaining)
        a.instruction(
            HostEncoding(opcode: 0x2b), HostRegister.rcx, .register(GuestRegisters.second))
        a.store(HostRegister.rcx, StateField.retired)
        a.store(GuestRegisters.first, StateField.currentOp)
        a.store(GuestRegisters.first, StateField.blockStart)
        a.lea(HostRegister.rdi, .at(GuestRegisters.state, -Int32(GuestRegisters.bias)))
        a.move(HostRegister.rsi, GuestRegisters.first)
        // The handler is an op's first field.
        a.instruction(.group5, 2, .at(GuestRegisters.first), wide: false)
        a.bytes(0x85, 0xc0)  // test eax, eax
        let bails = a.jump(if: 5)
        a.instruction(HostEncoding(opcode: 0x83), 7, StateField.blockEnd)  // cmp …, 0
        a.bytes(0)
        let leaves = a.jump(if: 4)
        a.instruction(.moveImmediate, 0, StateField.blockStart)
        a.imm32(0)
        if withFlags {
            a.lea(HostRegister.rdi, .at(GuestRegisters.state, -Int32(GuestRegisters.bias)))
            callC(&a, Self.flagsToHost, hasState: true)
        } else {
            a.load(HostRegister.rax, .at(HostRegister.rsp, 16))
        }
        callIfVectors(&a, takeVectors)
        a.restoreFlags()
        loadGuest(&a)
        a.lea(HostRegister.rsp, .at(HostRegister.rsp, 24))
        a.bytes(0xb9)  // mov ecx, 0
        a.imm32(0)
        a.bytes(0xc3)
        a.bind(bails)
        a.bind(leaves)
        if !withFlags {
            a.store(HostRegister.rax, .at(HostRegister.rsp))
            a.load(HostRegister.rsi, .at(HostRegister.rsp, 16))
            callC(&a, Self.flagsFromHost)
            a.load(HostRegister.rax, .at(HostRegister.rsp))
        }
        a.load(HostRegister.rcx, .at(HostRegister.rsp, 8))
        a.store(HostRegister.rcx, StateField.undone)
        a.lea(HostRegister.rsp, .at(HostRegister.rsp, 24))
        a.bytes(0xb9)  // mov ecx, 1
        a.imm32(1)
        a.bytes(0xc3)
    }

    /// Returns from `enter` with the status in EAX.
    private func leaveCode(_ a: inout Assembler) {
        a.lea(HostRegister.rsp, .at(HostRegister.rsp, 8))
        for register in Self.savedByCallee.reversed() { pop(&a, register) }
        a.bytes(0xc3)
    }

    /// Calls shared code if vector state is in host registers. The flags are lost.
    private func callIfVectors(_ a: inout Assembler, _ code: UInt) {
        a.instruction(HostEncoding(opcode: 0x83), 7, StateField.xmmAbsent)  // cmp …, 0
        a.bytes(0)
        let absent = a.jumpShort(if: 5)
        a.jump(to: code, opcode: 0xe8)
        a.bindShort(absent)
    }

    /// Calls a function with the state as first argument.
    private func callC(_ a: inout Assembler, _ function: Handler, hasState: Bool = false) {
        if !hasState {
            a.lea(HostRegister.rdi, .at(GuestRegisters.state, -Int32(GuestRegisters.bias)))
        }
        a.constant(HostRegister.rax, Self.address(function))
        a.bytes(0xff, 0xd0)  // call rax
    }

    private func storeGuest(_ a: inout Assembler) {
        for guest in 0..<16 as Range<UInt8> {
            if let host = GuestRegisters.host(guest) { a.store(host, GuestRegisters.guest(guest)) }
        }
    }

    private func loadGuest(_ a: inout Assembler) {
        for guest in 0..<16 as Range<UInt8> {
            if let host = GuestRegisters.host(guest) { a.load(host, GuestRegisters.guest(guest)) }
        }
    }

    private func push(_ a: inout Assembler, _ register: UInt8) {
        if register >= 8 { a.bytes(0x41) }
        a.bytes(0x50 | register & 7)
    }

    private func pop(_ a: inout Assembler, _ register: UInt8) {
        if register >= 8 { a.bytes(0x41) }
        a.bytes(0x58 | register & 7)
    }
}
