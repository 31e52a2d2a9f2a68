import X86

/// What the hypervisor knows of one shadow page: 512 entries × 8 bytes in one machine frame.
///
/// Zero stands for "none" in every link below; shadow page 0 is the empty root, which no link ever
/// names, so that the all-zero record is a free page.
struct ShadowPage: BitwiseCopyable {
    /// The role's frame: the guest frame of the table that this page shadows; of a direct page,
    /// the guest frame that its entry 0 maps; of an upper page, a hash of the registers.
    var guestFrame: UInt64 = 0
    /// The first parent slot, linked through `SlotLink.next`.
    var parents: UInt32 = 0
    /// The next page of the same guest frame (indirect), of the same bucket (direct and upper), or
    /// free.
    var next: UInt32 = 0
    /// Neighbours in the order of use.
    var newer: UInt32 = 0
    var older: UInt32 = 0
    /// The walk that used the page last; one of the present walk is not reclaimed.
    var stamp: UInt32 = 0
    /// What recorded writes since the last use amount to; see `ShadowMMU.heatLimit`.
    var heat: UInt32 = 0
    /// How many of the 512 shadow entries are present.
    var present: UInt16 = 0
    /// 1…5 in use, 0 free.
    var levelNumber: UInt8 = 0
    /// See `DirectRole.flags` and `upper`.
    var flags: UInt8 = 0
    /// What the guest's entries mean; all zero in a direct page.
    var role = TableRole(rawValue: 0)

    static let direct: UInt8 = 1
    static let dirty: UInt8 = 2
    static let global: UInt8 = 4
    /// The page stands for registers, not for memory: see `ShadowMMU+Upper.swift`.
    static let upper: UInt8 = 8
    /// Bits 7…4 of a direct page's flags: the protection key.
    var key: UInt8 { flags >> 4 }

    @inline(__always) var level: PageLevel { PageLevel(rawValue: levelNumber) ?? .table }
    @inline(__always) var isDirect: Bool { flags & Self.direct != 0 }
    @inline(__always) var isUpper: Bool { flags & Self.upper != 0 }
    var isInUse: Bool { levelNumber != 0 }

    /// Whether a processor may walk from here: no entry names such a page.
    @inline(__always) var isRoot: Bool {
        levelNumber == 5 || levelNumber == 4 && role.form != .fiveLevel
    }

    /// The linear address whose bits from the level of a root down are `bits`.
    func linearAddress(_ bits: UInt64) -> UInt64 {
        let unused: UInt64 = levelNumber == 5 ? 7 : 16
        return UInt64(bitPattern: Int64(bitPattern: bits << unused) >> Int64(unused))
    }
}

/// The identity of a direct page: it shadows no guest table, but one large guest leaf (or a part of
/// one), or, with CR0.PG clear, guest-physical memory itself.
///
/// R/W, U/S and XD of the large leaf stand in the entry that links to the page and apply to all of
/// it, so pages are shared between leaves of different rights. D, G and the protection key count in
/// leaves only, and are therefore part of the role.
struct DirectRole: Equatable {
    var baseFrame: UInt64
    var level: PageLevel
    var isDirty: Bool
    var isGlobal: Bool
    var key: UInt8 = 0

    var flags: UInt8 {
        ShadowPage.direct | (isDirty ? ShadowPage.dirty : 0) | (isGlobal ? ShadowPage.global : 0)
            | key << 4
    }
}

/// The list that a present shadow entry is in: the leaves of a frame, or the parents of a page.
///
/// A *slot* is a shadow page's number × 512 + the index of the entry.
struct SlotLink: BitwiseCopyable {
    var next: UInt32 = 0
    var previous: UInt32 = 0
}

/// What the hypervisor knows of one guest frame.
struct FrameState: BitwiseCopyable {
    /// The first slot of the leaves that map the frame. A large leaf is in the list of the first
    /// frame that it maps.
    var leaves: UInt32 = 0
    /// The first shadow page of the frame as a guest table. The frame is traced while there is one,
    /// unless it is nested.
    var shadows: UInt32 = 0
    /// Its place in `ShadowMMU.unsynced`, counted from 1; 0: the table is in step.
    var unsynced: UInt32 = 0
    /// Its place in `ShadowMMU.nested`, counted from 1; 0: the processor does not walk it.
    var nested: UInt32 = 0
    /// The epoch in which `writes` were counted or, of a nested table, watching began.
    var epoch: UInt32 = 0
    /// How many writes to the table exited in that epoch.
    var writes: UInt32 = 0
    /// Whether the next write to the nested table exits.
    var isWatched = false
}

/// The translation caches of the processors, as the shadow machinery needs them.
package protocol TranslationCacheControl: AnyObject {
    /// Drops cached translations of the page, of every PCID.
    func invalidate(_ address: GuestVirtualAddress)
    /// Drops every cached translation.
    func invalidateAll()
    /// Memory in the frame was written behind the processor's back.
    func codeChanged(in frame: MachineFrame)
}
