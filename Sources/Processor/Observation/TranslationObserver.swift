import X86

/// Something that is told of every translation that a processor takes from a table, and of every
/// operation of the guest's that ends what may be cached: for verification.
///
/// The calls come on the slow path (after a page walk, in an instruction that manages
/// translations), and not at all in an ordinary run.
package protocol TranslationObserver: AnyObject {
    /// A processor has completed a walk, or (`isUse`) used what it had cached of one.
    func translated(_ translation: ObservedTranslation, isUse: Bool, by processor: Processor)
    /// A processor has executed something that ends staleness. Its registers are the new ones.
    func operated(_ operation: TranslationOperation, by processor: Processor)
    /// A page fault is being delivered to the guest: `error` is its error code, `access` the kind
    /// of the access that met it, where that is known.
    func faulted(_ address: UInt64, error: UInt32, access: AccessKind?, by processor: Processor)
}

/// What a processor took from a table.
package struct ObservedTranslation: Equatable, Sendable {
    /// The linear address of the access.
    package var address: UInt64
    package var access: AccessKind
    /// The machine address of the page's first byte.
    package var base: UInt64
    /// log2 of the page's size in bytes.
    package var shift: UInt64
    /// The rights of all levels together; and D and G of the leaf, G only where CR4.PGE is set.
    package var isWritable: Bool
    package var isUser: Bool
    package var isExecuteDisabled: Bool
    package var isDirty: Bool
    package var isGlobal: Bool
    /// The leaf's protection key.
    package var key: UInt8

    package init(
        address: UInt64, access: AccessKind, base: UInt64, shift: UInt64, isWritable: Bool,
        isUser: Bool, isExecuteDisabled: Bool, isDirty: Bool, isGlobal: Bool,
        key: UInt8 = 0
    ) {
        self.address = address
        self.access = access
        self.base = base
        self.shift = shift
        self.isWritable = isWritable
        self.isUser = isUser
        self.isExecuteDisabled = isExecuteDisabled
        self.isDirty = isDirty
        self.isGlobal = isGlobal
        self.key = key
    }
}

/// What ends staleness (SDM Vol. 3A §4.10.4.1), beside a page fault.
package enum TranslationOperation: Equatable, Sendable {
    /// INVLPG of a linear address.
    case invalidatePage(UInt64)
    /// INVPCID; `type` is 0…3.
    case invalidatePCID(type: UInt8, pcid: UInt16, address: UInt64)
    /// MOV to CR3 or a task switch; `flushed`: bit 63 of the source was clear.
    case rootLoaded(flushed: Bool)
    /// CR0, CR4 or EFER changed in a bit that bears on paging; holds the old values.
    case modeChanged(cr0: UInt64, cr4: UInt64, efer: UInt64)
    /// A reset or INIT, or registers set by the board: nothing is cached.
    case reset
}

extension Processor {
    /// Tells the observer of a translation.
    @inline(never)
    func observe(
        _ address: UInt64, _ access: AccessKind, _ translation: Translation, isUse: Bool
    ) {
        observer?.translated(
            ObservedTranslation(
                address: address, access: access, base: translation.base,
                shift: translation.level.shift,
                isWritable: translation.has(TranslationBits.writable),
                isUser: translation.has(TranslationBits.user),
                isExecuteDisabled: translation.has(TranslationBits.executeDisable),
                isDirty: translation.has(TranslationBits.dirty),
                isGlobal: translation.has(TranslationBits.global), key: translation.key),
            isUse: isUse, by: self)
    }

    /// Tells the observer of an operation that has been done.
    func observe(_ operation: TranslationOperation) {
        guard hasObserver, let observer else { return }
        observer.operated(operation, by: self)
    }

    /// Tells the observer of a page fault on its way to the guest.
    @inline(never)
    func observeFault(_ address: UInt64, _ error: UInt32) {
        let access = faultedAccess.address == address ? faultedAccess.kind : nil
        observer?.faulted(address, error: error, access: access, by: self)
    }

    /// The offset in CS of the instruction that is being executed, exact also within it.
    package var runningRIP: UInt64 {
        core.state.blockStart == 0
            ? core.state.rip : core.currentRIP(OpRef(core.state.currentOp))
    }
}
