import X86

extension AccessKind {
    /// A walk that reports nothing where it fails. Never in an exit.
    static let silent = AccessKind(rawValue: 1 << 6)
    /// No access at all, but hardware that guesses one: it needs no rights and sets neither A nor
    /// D; where either would have to be set on the way to the leaf it ends. Silent too.
    static let speculative = AccessKind(rawValue: 1 << 7).union(.silent)
}

/// Translations that no access asked for (`Hardware.speculates`): lawful at any moment, if a walk
/// gives them (SDM Vol. 3A §4.10.2.3).
extension Processor {
    /// What happens at times whatever the guest does; called at each entry into the guest and at
    /// each INVLPG and INVPCID, and of no effect on default hardware.
    ///
    /// What is cached in an operation that the hypervisor answers comes before its answer, which
    /// ends what is not right any more before the guest can use it: it is not the observer's to
    /// see.
    func stirCaches(inOperation: Bool = false) {
        guard caches.structures != nil else { return }
        caches.evictSome(near: core.state.rip, currentPCID)
        let isAnswered =
            inOperation && control.exitsOnPagingOperations && control.exitsOnInvalidation
        speculate(near: core.state.rip, isObserved: !isAnswered)
    }

    /// Caches translations of the pages beside `address`, and of those that registers point to.
    /// Nothing is counted, nothing but the caches changes.
    func speculate(near address: UInt64, isObserved: Bool = true) {
        guard caches.speculates, core.state.cr0 & CR0.paging != 0 else { return }
        let references = statistics.walkReferences
        let note = lastNote
        cacheSpeculatively(address &+ pageSize, isObserved)
        cacheSpeculatively(address &- pageSize, isObserved)
        for register in 0..<16 as Range<UInt16> {
            cacheSpeculatively(core[register * 8], isObserved)
        }
        lastNote = note
        statistics.walkReferences = references
    }

    private func cacheSpeculatively(_ given: UInt64, _ isObserved: Bool) {
        let address = core.state.mode == .long64 ? given : given & 0xffff_ffff
        guard core.isCanonical(address),
            caches.lookup(address, pcid: currentPCID) == nil,
            let found = walk(address, .speculative)
        else { return }
        if observer != nil && isObserved { observe(address, .speculative, found, isUse: false) }
        _ = caches.insert(address, pcid: currentPCID, found)
    }
}
