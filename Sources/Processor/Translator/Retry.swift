import X86

/// A look-up in generated code that may miss: in the software TLB, or in the table of jumps.
///
/// What it misses is mostly known: the modelled TLB or a walk answers an access, and the block at a
/// jump's target was found before the tables were last emptied. It is then entered, and looked up
/// again, at a fraction of what a handler and a turn of the run loop cost.
struct Retry {
    /// Where the distance of the jump lies that is taken where it misses.
    var miss: Int
    /// The address of the look-up.
    var address: UInt
    /// What is accessed; nil where it is a jump's target.
    var access: Access?

    /// The size in bytes; in bit 8 whether it is a write, in bit 9 whether it must be aligned.
    struct Access {
        var rawValue: UInt64

        init(rawValue: UInt64) { self.rawValue = rawValue }

        init(_ size: Int, write: Bool, aligned: Bool) {
            rawValue = UInt64(size) | (write ? 1 << 8 : 0) | (aligned ? 1 << 9 : 0)
        }

        var size: UInt64 { rawValue & 0xff }
        var isWrite: Bool { rawValue & 1 << 8 != 0 }

        /// Whether it lies in one page, and is aligned where it must be: the look-up misses if not,
        /// whatever is entered.
        func isPlain(at address: UInt64) -> Bool {
            address & 0xfff &+ size <= pageSize
                && (rawValue & 1 << 9 == 0 || address & 15 == 0)
        }
    }
}

extension Processor {
    /// Enters the page of an explicit access of translated code into the software TLB, as the
    /// instruction's handler would have it. Where there is more to do (a fault, an exit, a page
    /// with slow writes, a block to be left) the handler does that, and finds the modelled TLB as
    /// if it had been asked first.
    /// - Returns: whether the access hits now.
    func enterPage(_ address: UInt64, _ access: Retry.Access) -> Bool {
        guard access.isPlain(at: address), !hasObserver, caches.structures == nil,
            core.isCanonical(address)
        else { return false }
        let kind = access.isWrite ? explicitKind.union(.write) : explicitKind
        let pcid = currentPCID
        if let cached = caches.lookup(address, pcid: pcid), permits(cached, kind) {
            // The handler has to note the write.
            if access.isWrite, cached.has(TranslationBits.traced) { return false }
            enter(cached, address, kind)
        } else if access.isWrite {
            // Many are first writes, which a walk refuses: the handler would only walk again.
            return false
        } else {
            let references = statistics.walkReferences
            guard let walked = walk(address, kind.union(.silent)) else {
                statistics.walkReferences = references
                return false
            }
            statistics.tlbMisses += 1
            enter(caches.insert(address, pcid: pcid, walked), address, kind)
        }
        let entry = SoftwareTLB.entry(core.state.bank, address)
        return core.state.blockEnd != 0
            && SoftwareTLB.hits(
                access.isWrite ? entry.writeTag : entry.readTag, address, access.size)
    }

    /// Enters the translation of the code at `rip` into the table of jumps, and what was there of
    /// the same page, if it was executed before and the modelled TLB has its page.
    /// - Returns: whether a look-up finds it now.
    func enterTarget(_ rip: UInt64) -> Bool {
        let bank = Int((core.state.bank &- core.state.supervisorBank) / UInt(SoftwareTLB.bankBytes))
        guard bank < JumpTable.tableCount, let found = known(rip),
            let memory = translations, found[translation: bank] != 0
        else { return false }
        blocks.jumps.remember(
            rip, bank: bank, host: memory.with { $0.far(found[translation: bank]) },
            frame: found.machine >> 12)
        return true
    }

    /// The block of 64-bit code at `rip`, if it was executed there before and the modelled TLB
    /// still leads to it: what a fetch would find, in a fraction of the time.
    func known(_ rip: UInt64) -> BlockRef? {
        let isUser = core.state.cpl == 3
        let context = BlockCache.context(.long64, user: isUser)
        let found = blocks.lookup(rip, context)
        if found != 0 { return BlockRef(found) }
        guard !observesUses, core.state.cr0 & CR0.paging != 0, core.isCanonical(rip),
            let cached = caches.lookup(rip, pcid: currentPCID),
            permits(cached, isUser ? [.fetch, .user] : .fetch)
        else { return nil }
        let machine = cached.base | rip & (cached.level.entrySpan &- 1)
        let former = blocks.formerly(rip, at: machine, .long64)
        guard former != 0, BlockRef(former).secondFrame == .max else { return nil }
        blocks.remember(
            rip, context, former, isGlobal: cached.has(TranslationBits.global))
        return BlockRef(former)
    }
}
