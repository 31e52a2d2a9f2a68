import MachineMemory
import X86

/// A run of decoded instructions within one page, ending at the first that may change control flow.
struct Block {
    /// Machine address of the first byte, shifted left by 3, with the code size in the low bits;
    /// `.max` once dropped.
    var key: UInt64
    /// The address of the first op.
    var ops: UInt
    /// How many ops there are.
    var count: UInt32
    /// The bytes of code.
    var length: UInt16
    /// The distance of the first byte from the start of its page.
    var offset: UInt16
    /// How often it was looked at for translation.
    var uses: UInt32 = 0
    /// Where its translations lie in the memory for them, one for each bank of the software TLB
    /// that has entries; 0: not translated.
    var translations = InlineArray<3, UInt32>(repeating: 0)
    /// What of the vector state its translations have in host registers.
    var vectors = VectorResidence.none
    /// Machine frame of the second page, of a block whose one instruction crosses into it.
    var secondFrame: UInt64
}

/// The cache of decoded code: each instruction is decoded once until its memory is written.
///
/// Blocks are found by machine address, so aliases of a page share them and no change of the page
/// tables touches them. A small table in front finds them by guest virtual RIP; it is emptied with
/// the software TLB. Ops are placed one after the other in a pool of fixed size. When the pool is
/// full everything is dropped: simple, and rare. The processors of a machine share out one ceiling,
/// so that its memory does not grow with their number.
///
/// Frames that hold code decoded by any processor are flagged in `MachineMemory.frameFlags`, so that
/// writes to them take the slow path, on whichever processor, and drop the blocks that they touch
/// from every cache (`MachineMemory.codeWritten`).
@safe final class BlockCache {
    /// The ceiling of a machine's caches together: 1.5 million ops (84 MB of address space). One
    /// processor's share has at least room for what a kernel and a program run in turns.
    static let machineOps = 1_500_000
    static let leastOps = 1 << 17
    private static let lookupCount = 1 << 14
    private static let pageCount = 1 << 12

    /// How many ops there is room for.
    let opCapacity: Int
    /// How many blocks: a power of two, for 6 ops each or fewer.
    let blockCapacity: Int
    /// Twice as many, so that a slot is always free.
    private let tableSize: Int

    /// A front entry: the block at a virtual RIP, while `generation` is current.
    struct Lookup {
        var rip: UInt64 = 0
        var generation: UInt64 = 0
        var block: UInt = 0
        var unused: UInt64 = 0
    }

    /// Where translated code looks targets up.
    let jumps: JumpTable
    /// The translations of blocks; nil where they are interpreted.
    var translations: TranslationMemory?
    private let memory: MachineMemory
    private let ops: UnsafeMutablePointer<Op>
    private let blocks: UnsafeMutablePointer<Block>
    /// Open-addressed hash table of block indices + 1.
    private let table: UnsafeMutablePointer<UInt32>
    private let lookups: UnsafeMutablePointer<Lookup>
    /// By half of the address space and the low bits of a virtual page's number: the generation in
    /// which code of such a page was last remembered.
    private let pages: UnsafeMutablePointer<UInt64>
    private var opCount = 0
    private var blockCount = 0
    /// The blocks that touch a frame.
    private var framesWithCode: [UInt64: [UInt32]] = [:]
    /// Part of every front entry's tag, one for each half of the address space; the low 4 bits are
    /// left for the context. No number is used twice.
    private let generations: UnsafeMutablePointer<UInt64>
    private var lastGeneration: UInt64 = 16
    /// Code in the upper half was remembered by a translation that is not global.
    private var hasLocalUpperHalf = false

    /// - Parameter processors: how many of the machine have a cache like this.
    init(memory: MachineMemory, processors: Int, jumps: JumpTable) {
        self.memory = memory
        self.jumps = jumps
        opCapacity = max(Self.machineOps / max(processors, 1), Self.leastOps)
        var blockCapacity = 1
        while blockCapacity < opCapacity / 6 { blockCapacity *= 2 }
        self.blockCapacity = blockCapacity
        tableSize = 2 * blockCapacity
        unsafe ops = .allocate(capacity: opCapacity)
        unsafe blocks = .allocate(capacity: blockCapacity)
        unsafe table = .allocate(capacity: tableSize)
        unsafe table.initialize(repeating: 0, count: tableSize)
        unsafe lookups = .allocate(capacity: Self.lookupCount)
        unsafe lookups.initialize(repeating: Lookup(), count: Self.lookupCount)
        unsafe pages = .allocate(capacity: 2 * Self.pageCount)
        unsafe pages.initialize(repeating: 0, count: 2 * Self.pageCount)
        unsafe generations = .allocate(capacity: 2)
        unsafe generations.initialize(repeating: lastGeneration, count: 2)
    }

    deinit {
        for frame in framesWithCode.keys { memory.removeCode(in: frame) }
        unsafe ops.deallocate()
        unsafe blocks.deallocate()
        unsafe table.deallocate()
        unsafe lookups.deallocate()
        unsafe pages.deallocate()
        unsafe generations.deallocate()
    }

    // MARK: By virtual RIP

    @inline(__always)
    private static func slot(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: rip ^ (rip >> 14)) & (lookupCount - 1)
    }

    /// What a remembered block is good for beside its address: the code size, and fetches with
    /// user or with supervisor rights, 4 bits.
    @inline(__always)
    static func context(_ mode: CodeMode, user: Bool) -> UInt64 {
        UInt64(mode.rawValue) | (user ? 8 : 0)
    }

    /// The block at linear address `rip`, if it was entered since the last flush in the same
    /// context; 0 if not.
    @inline(__always)
    func lookup(_ rip: UInt64, _ context: UInt64) -> UInt {
        let entry = unsafe lookups + Self.slot(rip)
        if unsafe entry.pointee.rip == rip,
            unsafe entry.pointee.generation == generation(rip) | context
        {
            let block = unsafe entry.pointee.block
            // It may have been dropped since.
            return BlockRef(block).key == .max ? 0 : block
        }
        return 0
    }

    /// - Parameter isGlobal: the translations by which it was found are.
    func remember(_ rip: UInt64, _ context: UInt64, _ block: UInt, isGlobal: Bool) {
        let entry = unsafe lookups + Self.slot(rip)
        unsafe entry.pointee.rip = rip
        unsafe entry.pointee.generation = generation(rip) | context
        unsafe entry.pointee.block = block
        if !isGlobal && rip >> 63 != 0 { hasLocalUpperHalf = true }
        unsafe pages[page(rip)] = generation(rip)
        if BlockRef(block).secondFrame != .max {
            let next = rip &+ pageSize
            unsafe pages[page(next)] = generation(next)
        }
    }

    @inline(__always)
    private func generation(_ rip: UInt64) -> UInt64 {
        unsafe generations[Int(truncatingIfNeeded: rip >> 63)]
    }

    private func page(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: rip >> 12) & (Self.pageCount - 1)
            + Int(truncatingIfNeeded: rip >> 63) * Self.pageCount
    }

    private func renew(_ half: Int) {
        lastGeneration &+= 16
        unsafe generations[half] = lastGeneration
    }

    /// Forgets what is at which virtual address.
    func flushLookups() {
        renew(0)
        renew(1)
        hasLocalUpperHalf = false
        jumps.empty()
    }

    /// Forgets all that was found by translations that are not global. These are all of the lower
    /// half and, with the kernels that there are, none of the upper one.
    func flushLocalLookups() {
        if hasLocalUpperHalf { return flushLookups() }
        renew(0)
        jumps.emptyLowerHalf()
    }

    /// Forgets what is in the page at a virtual address: all, if any of it may be remembered.
    /// - Returns: whether it did.
    func flushLookups(ofPage address: UInt64) -> Bool {
        guard unsafe pages[page(address)] == generation(address) else { return false }
        flushLookups()
        return true
    }

    /// The block that was entered at linear address `rip` some flush ago, if that is what lies at
    /// this machine address now; 0 if not. It spares the search.
    func formerly(_ rip: UInt64, at address: UInt64, _ mode: CodeMode) -> UInt {
        let entry = unsafe lookups + Self.slot(rip)
        guard unsafe entry.pointee.rip == rip, unsafe entry.pointee.block != 0 else { return 0 }
        let block = unsafe entry.pointee.block
        return BlockRef(block).key == Self.key(address, mode) ? block : 0
    }

    // MARK: By machine address

    static func key(_ address: UInt64, _ mode: CodeMode) -> UInt64 {
        address << 3 | UInt64(mode.rawValue)
    }

    private func slot(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> 45) & (tableSize - 1)
    }

    /// The block that starts at a machine address; 0 if it is not decoded.
    func find(_ address: UInt64, _ mode: CodeMode) -> UInt {
        let key = Self.key(address, mode)
        var index = slot(key)
        while unsafe table[index] != 0 {
            let block = unsafe blocks + Int(table[index] - 1)
            if unsafe block.pointee.key == key { return UInt(bitPattern: block) }
            index = (index + 1) & (tableSize - 1)
        }
        return 0
    }

    /// Whether another block of the largest size still fits.
    var hasRoom: Bool {
        opCount + Self.maximumOps <= opCapacity && blockCount < blockCapacity
    }

    /// The most instructions in one block.
    static let maximumOps = 64

    /// Enters a decoded block. `hasRoom` must hold.
    func insert(
        _ address: UInt64, _ mode: CodeMode, _ decoded: [Op], length: Int, secondFrame: UInt64?
    ) -> UInt {
        let first = unsafe ops + opCount
        for (index, op) in decoded.enumerated() {
            unsafe (first + index).initialize(to: op)
        }
        opCount += decoded.count
        let key = Self.key(address, mode)
        let block = unsafe blocks + blockCount
        unsafe block.initialize(
            to: Block(
                key: key, ops: UInt(bitPattern: first), count: UInt32(decoded.count),
                length: UInt16(truncatingIfNeeded: length), offset: UInt16(address & 0xfff),
                secondFrame: secondFrame ?? .max))
        blockCount += 1
        var index = slot(key)
        // A dropped block's slot is taken over, so that code which is loaded again and again does
        // not lengthen its own chain; with twice as many slots as blocks one is always free.
        while unsafe table[index] != 0, unsafe blocks[Int(table[index] - 1)].key != .max {
            index = (index + 1) & (tableSize - 1)
        }
        unsafe table[index] = UInt32(blockCount)
        note(address >> 12, UInt32(blockCount - 1))
        if let secondFrame { note(secondFrame, UInt32(blockCount - 1)) }
        return UInt(bitPattern: block)
    }

    private func note(_ frame: UInt64, _ block: UInt32) {
        framesWithCode[frame, default: []].append(block)
        if framesWithCode[frame]?.count == 1 { memory.addCode(in: frame) }
    }

    // MARK: Writes to code

    /// Drops the blocks that `size` bytes written at a machine address touch.
    func written(_ address: UInt64, size: Int) {
        guard let list = framesWithCode[address >> 12] else { return }
        var kept: [UInt32] = []
        for index in list {
            let block = unsafe blocks[Int(index)]
            guard block.key != .max else { continue }
            let start = block.key >> 3
            let crosses = block.secondFrame == address >> 12
            if crosses || (address < start + UInt64(block.length) && start < address + UInt64(size))
            {
                drop(index)
            } else {
                kept.append(index)
            }
        }
        // Blocks that were dropped from their other page go too: this page may have no code left.
        if kept.count != list.count { setList(address >> 12, kept) }
    }

    /// What jumps to its translations goes no further, and what finds it sees that it is gone.
    private func drop(_ index: UInt32) {
        let machine = unsafe blocks[Int(index)].key >> 3
        unsafe blocks[Int(index)].key = .max
        for bank in 0..<3 {
            let translation = unsafe blocks[Int(index)].translations[bank]
            if translation != 0 { translations?.close(translation, machine, bank: bank) }
        }
    }

    /// Drops every block that touches a frame.
    func drop(frame: UInt64) {
        guard let list = framesWithCode[frame] else { return }
        for index in list { drop(index) }
        setList(frame, [])
    }

    private func setList(_ frame: UInt64, _ list: [UInt32]) {
        if list.isEmpty {
            framesWithCode[frame] = nil
            memory.removeCode(in: frame)
        } else {
            framesWithCode[frame] = list
        }
    }

    /// Drops everything. Not while a block runs.
    func removeAll() {
        for frame in framesWithCode.keys { memory.removeCode(in: frame) }
        framesWithCode.removeAll(keepingCapacity: true)
        unsafe table.update(repeating: 0, count: tableSize)
        opCount = 0
        blockCount = 0
        unsafe lookups.update(repeating: Lookup(), count: Self.lookupCount)
        translations?.removeAll()
        jumps.removeAll()
        flushLookups()
    }
}

/// A block's fields by its address. Safety: as for `OpRef`.
@safe struct BlockRef {
    private let pointer: UnsafeMutablePointer<Block>
    @inline(__always) init(_ address: UInt) {
        unsafe pointer = UnsafeMutablePointer<Block>(bitPattern: address).unsafelyUnwrapped
    }
    /// What it is found by.
    @inline(__always) var key: UInt64 { unsafe pointer.pointee.key }
    /// The machine address of the first byte.
    var machine: UInt64 { unsafe pointer.pointee.key >> 3 }
    @inline(__always) var offset: UInt64 { UInt64(unsafe pointer.pointee.offset) }
    @inline(__always) var uses: UInt32 {
        get { unsafe pointer.pointee.uses }
        nonmutating set { unsafe pointer.pointee.uses = newValue }
    }
    /// Where the translation for a bank lies; 0: there is none. Banks are below 3.
    @inline(__always) subscript(translation bank: Int) -> UInt32 {
        get { unsafe pointer.pointee.translations[bank] }
        nonmutating set { unsafe pointer.pointee.translations[bank] = newValue }
    }
    /// What of the vector state its translations have in host registers.
    @inline(__always) var vectors: VectorResidence {
        get { unsafe pointer.pointee.vectors }
        nonmutating set { unsafe pointer.pointee.vectors = newValue }
    }
    @inline(__always) var ops: UInt { unsafe pointer.pointee.ops }
    @inline(__always) var count: UInt64 { UInt64(unsafe pointer.pointee.count) }
    @inline(__always) var length: UInt64 { UInt64(unsafe pointer.pointee.length) }
    @inline(__always) var secondFrame: UInt64 { unsafe pointer.pointee.secondFrame }
}
