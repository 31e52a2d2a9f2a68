import CZydis
import X86

/// Translates one block of 64-bit code.
///
/// *Problem.* Do what the interpreter does with each op, to the bit and to the count, at the speed
/// of the host.
///
/// *Approach.* Most integer instructions have the same opcode on the host: they are encoded again
/// with host registers in place of the guest's (`GuestRegisters`) and, for an operand in memory, the
/// host address that the software TLB gives (`BlockTranslator+Memory.swift`). Guest flags live in
/// the host's; everything between instructions (lookups in the software TLB and in the table of
/// jumps, charging a block's instructions) uses instructions that leave flags alone. So no flag is
/// ever computed. What is not translated, and every access that misses the software TLB, calls the
/// interpreter's handler for the whole instruction: faults, exits and side effects are the
/// handler's, and are precise since registers are stored before the call.
///
/// *Caveats.* Flags that the architecture leaves undefined must be what the interpreter has: where
/// the host's differ and something could see them, an instruction more sets them (`Fix`).
struct BlockTranslator {
    var assembler = Assembler()
    /// What is executed less: ways out of the block, and what is done where a look-up misses. It
    /// lies elsewhere.
    private(set) var cold: Assembler
    let memory: TranslationMemory
    let block: BlockRef
    /// The software TLB's bank of the rights that the code has here, below 3.
    var bank: Int
    /// The bank with which the block is entered.
    private let entryBank: Int
    /// Whether the processor has CLAC and STAC.
    let hasSMAP: Bool
    let instructions: [Instruction]
    /// For each instruction whether something may see the flags that it leaves.
    let flagsSeen: [Bool]
    /// Where the running instruction is in the block.
    var index = 0
    /// Whether the x87 instruction pointer's page is known to be this block's.
    var hasInstructionPage = false
    /// Jumps to code behind the block.
    private var slowPaths: [SlowPath] = []
    private var chains: [Chain] = []
    private var crossings: [Crossing] = []
    /// Look-ups of where the code goes on behind the block.
    private var ends: [Int] = []
    /// The look-ups that have not been given what is done where they miss, in the code's order.
    var retries: [Retry] = []
    private var near = 0
    /// Where each instruction's code begins; kept only where somebody looks at it.
    private(set) var starts: [Int] = []
    private let keepsStarts: Bool

    /// Jumps to the handler's call for an instruction; it goes on at `resume`.
    private struct SlowPath {
        var jumps: [Int]
        var instructions: Range<Int>
        /// An address.
        var resume: UInt
    }

    /// A jump within the page that may be chained.
    private struct Chain {
        var site: Int
        /// The target's distance from the start of the page.
        var target: Int
    }

    /// A conditional jump out of the page.
    private struct Crossing {
        var site: Int
        var index: Int
    }

    init(
        _ memory: TranslationMemory, _ assembler: Assembler, cold: Assembler, _ block: BlockRef,
        bank: Int, hasSMAP: Bool, keepsStarts: Bool = false, _ instructions: [Instruction]
    ) {
        self.keepsStarts = keepsStarts
        self.memory = memory
        self.assembler = assembler
        self.cold = cold
        self.block = block
        self.bank = bank
        entryBank = bank
        self.hasSMAP = hasSMAP
        self.instructions = instructions
        block.vectors = instructions.reduce(.none) { max($0, VectorSelection.residence($1)) }
        flagsSeen = FlagUse.seen(instructions)
    }

    /// The op of an instruction of the block.
    func op(_ index: Int) -> OpRef {
        OpRef(block.ops &+ UInt(index) &* UInt(MemoryLayout<Op>.stride))
    }

    /// Translates the block.
    /// - Returns: where `near` lies in the assembler's code.
    mutating func translate() -> Int {
        assembler.begin(at: memory.nextAddress)
        cold.begin(at: memory.nextColdAddress)
        prologue()
        var ended = false
        var following = 0
        while following < instructions.count {
            startInstruction(following)
            let run = stackRun(from: following)
            if run > 0 {
                stack(run)
            } else {
                ended = instruction(instructions[following], op(following))
            }
            following += max(run, 1)
        }
        if !ended { next() }
        outOfLine()
        return near
    }

    /// What is assembled from now on is an instruction's.
    mutating func startInstruction(_ index: Int) {
        self.index = index
        if keepsStarts { starts.append(assembler.count) }
    }

    /// `leave`, `far` and the charge, as `TranslationMemory` describes them.
    private mutating func prologue() {
        let offset = Int32(truncatingIfNeeded: block.offset)
        let first = GuestRegisters.first
        assembler.load(first, StateField.pageRIP)
        lea32(first, first, offset)
        assembler.jump(to: memory.sharedCode.exit)
        lea32(first, first, -offset)
        assembler.store(first, StateField.pageRIP)
        near = assembler.count
        provide(block.vectors)
        let count = Int32(instructions.count)
        assembler.load(GuestRegisters.second, StateField.remaining)
        assembler.lea(GuestRegisters.second, .at(GuestRegisters.second, -count))
        assembler.extract(
            GuestRegisters.scratch, GuestRegisters.second, mask: StateField.signMask)
        let permitted = assembler.jumpIfRCXZero()
        leaveBlock()
        assembler.bindShort(permitted)
        assembler.store(GuestRegisters.second, StateField.remaining)
    }

    /// Brings what the block's code needs of the vector state into host registers, or leaves.
    private mutating func provide(_ vectors: VectorResidence) {
        guard vectors != .none else { return }
        let needsX87 = vectors == .x87
        assembler.load(
            GuestRegisters.scratch, needsX87 ? StateField.x87Absent : StateField.xmmAbsent)
        let present = assembler.jumpIfRCXZero()
        assembler.jump(
            to: needsX87 ? memory.sharedCode.bringX87 : memory.sharedCode.bringXMM, opcode: 0xe8)
        let brought = assembler.jumpIfRCXZero()
        leaveBlock()
        assembler.bindShort(present)
        assembler.bindShort(brought)
    }

    /// Goes to `leave`, which is near.
    private mutating func leaveBlock() { assembler.jumpShort(to: 0) }

    /// LEA with a displacement of 4 bytes whatever its value.
    private mutating func lea32(_ to: UInt8, _ from: UInt8, _ displacement: Int32) {
        let rex: UInt8 = 0x48 | (to >= 8 ? 4 : 0) | (from >= 8 ? 1 : 0)
        assembler.bytes(rex, 0x8d, 0x80 | (to & 7) << 3 | from & 7)
        assembler.imm32(displacement)
    }

    // MARK: Ways out of the block

    /// Goes on at `offset` bytes from the start of the page, within it.
    mutating func jumpWithinPage(_ offset: Int) {
        chains.append(.init(site: assembler.jump(), target: offset))
    }

    mutating func jumpWithinPage(if condition: UInt8, _ offset: Int) {
        chains.append(.init(site: assembler.jump(if: condition), target: offset))
    }

    /// Goes on out of the page if a condition holds.
    mutating func jumpOut(if condition: UInt8) {
        crossings.append(.init(site: assembler.jump(if: condition), index: index))
    }

    static func isInPage(_ offset: UInt64) -> Bool { offset < pageSize }

    /// Goes on at the instruction behind the running one.
    mutating func next() {
        let offset = UInt64(op(index).nextOffset)
        if Self.isInPage(offset) { return jumpWithinPage(Int(offset)) }
        target(offset)
        ends.append(lookUpTarget())
        jumpToFound()
    }

    /// R10 := the RIP that is `displacement` from the start of the page.
    mutating func target(_ displacement: UInt64) {
        assembler.load(GuestRegisters.first, StateField.pageRIP)
        assembler.lea(
            GuestRegisters.first,
            .at(GuestRegisters.first, Int32(truncatingIfNeeded: Int64(bitPattern: displacement))))
    }

    /// Looks the RIP in R10 up: R11 is the entry.
    /// - Returns: a jump that is taken where it is not found.
    mutating func lookUpTarget() -> Int {
        let rip = GuestRegisters.first
        let entry = GuestRegisters.second
        let lookUp = assembler.address
        assembler.rotate(entry, rip, by: 12)
        assembler.lea(entry, .memory(base: entry, index: rip, scale: 0, displacement: 0))
        assembler.extract(entry, entry, mask: StateField.jumpMask)
        let table = Core.jumpTableOffset + bank * JumpTable.tableBytes
        assembler.load(HostRegister.rcx, GuestRegisters.at(table + JumpTable.tags, index: entry))
        assembler.lea(
            HostRegister.rcx, .memory(base: HostRegister.rcx, index: rip, scale: 0, displacement: 0)
        )
        let isThere = assembler.jumpIfRCXZero()
        let again = assembler.count
        let miss = assembler.jump()
        retries.append(.init(miss: miss, address: lookUp, access: nil))
        assembler.bindShort(isThere)
        assembler.extract(HostRegister.rcx, rip, mask: StateField.codePageMask)
        assembler.load(
            HostRegister.rcx,
            GuestRegisters.at(Core.jumpTableOffset + JumpTable.pages, index: HostRegister.rcx))
        let found = assembler.jumpIfRCXZero()
        assembler.jumpShort(to: again)
        assembler.bindShort(found)
        return miss
    }

    /// The host address that `lookUpTarget` found.
    var foundHost: HostOperand {
        let table = Core.jumpTableOffset + bank * JumpTable.tableBytes
        return GuestRegisters.at(table + JumpTable.hosts, index: GuestRegisters.second)
    }

    mutating func jumpToFound() { assembler.instruction(.group5, 4, foundHost, wide: false) }

    // MARK: Handlers

    /// Calls the handler of the running instruction.
    mutating func callHandler() { callHandler(index) }

    private mutating func callHandler(_ index: Int) {
        assembler.constant(
            GuestRegisters.first,
            UInt64(block.ops) &+ UInt64(index * MemoryLayout<Op>.stride))
        assembler.constant(GuestRegisters.second, UInt64(instructions.count - index))
        let instruction = instructions[index]
        let seesFlags =
            instruction.touchesFlags || IntegerSelection.endsBlock(instruction.mnemonic)
            || SystemSelection.endsBlock(instruction.mnemonic)
        assembler.jump(
            to: seesFlags ? memory.sharedCode.callWithFlags : memory.sharedCode.call, opcode: 0xe8)
        let isDone = assembler.jumpIfRCXZero()
        assembler.jump(to: memory.sharedCode.leave)
        assembler.bindShort(isDone)
    }

    /// The jumps given lead to a call of the running instruction's handler, after which the code
    /// goes on here.
    mutating func slowPath(_ jumps: [Int]) {
        slowPath(jumps, instructions: index..<index + 1)
    }

    /// The same for several instructions, the running one the last of them.
    mutating func slowPath(_ jumps: [Int], instructions: Range<Int>) {
        slowPaths.append(
            .init(jumps: jumps, instructions: instructions, resume: assembler.address))
    }

    // MARK: Behind the block

    /// What follows is assembled into `cold`, which changes places with `assembler` meanwhile.
    private mutating func outOfLine() {
        swap(&assembler, &cold)
        for slow in slowPaths {
            let calls = slow.jumps.map { jump in
                cold.bind(jump, toAddress: assembler.address)
                return lookAgain(jump)
            }
            for call in calls { assembler.bind(call) }
            for index in slow.instructions { callHandler(index) }
            assembler.jump(to: slow.resume)
        }
        for end in ends {
            cold.bind(end, toAddress: assembler.address)
            let exit = lookAgain(end)
            assembler.bind(exit)
            assembler.jump(to: memory.sharedCode.exit)
        }
        retries.removeAll(keepingCapacity: true)
        for crossing in crossings {
            cold.bind(crossing.site, toAddress: assembler.address)
            index = crossing.index
            target(op(index).immediate)
            let miss = lookUpTarget()
            jumpToFound()
            assembler.bind(miss)
            let call = lookAgain(miss)
            assembler.bind(call)
            // The handler jumps, which leaves; it does not come back here.
            callHandler(index)
        }
        let frame = block.machine & ~0xfff
        for chain in chains {
            if chain.target == Int(block.offset), bank == entryBank {
                cold.bind(chain.site, to: near)
                continue
            }
            cold.bind(chain.site, toAddress: assembler.address)
            target(UInt64(chain.target))
            let site = cold.origin &+ UInt(chain.site) &- memory.base
            assembler.constant(GuestRegisters.second, UInt64(site))
            assembler.constant(GuestRegisters.scratch, frame | UInt64(chain.target))
            assembler.jump(to: memory.sharedCode.exitToChain)
        }
        swap(&assembler, &cold)
    }

    /// Has what a look-up lacks entered, if there was one at the jump given, and looks again.
    /// - Returns: a jump that is taken where that does not help.
    private mutating func lookAgain(_ miss: Int) -> Int {
        guard let retry = retries.first(where: { $0.miss == miss }) else {
            return assembler.jump()
        }
        if let access = retry.access {
            assembler.constant(GuestRegisters.second, access.rawValue)
            assembler.jump(to: memory.sharedCode.refill, opcode: 0xe8)
        } else {
            assembler.jump(to: memory.sharedCode.find, opcode: 0xe8)
        }
        let isEntered = assembler.jumpIfRCXZero()
        let isMissing = assembler.jump()
        assembler.bindShort(isEntered)
        assembler.jump(to: retry.address)
        return isMissing
    }
}
