import X86

/// What one shadow page is, for debuggers.
public struct ShadowPageSummary: Equatable, Sendable {
    /// What the page stands for.
    public enum Kind: String, Sendable {
        /// A table of the guest.
        case table
        /// A large page of the guest, or guest-physical memory itself.
        case direct
        /// Registers of a 32-bit guest.
        case registers
    }

    public var number: UInt32
    public var kind: Kind
    /// 1…5.
    public var level: UInt8
    /// How the guest's tables are read; nil in a direct page.
    public var form: PagingForm?
    /// Which part of a 2-level table it shadows: 0…3.
    public var quadrant: Int
    /// The guest frame of the table, or the first that a direct page maps. Of `registers` it means
    /// nothing.
    public var guestFrame: UInt64
    /// How many of its 512 entries are present.
    public var present: Int
    /// What recorded writes since its last use amount to.
    public var heat: UInt32
    /// Writes to the guest's table are followed.
    public var isTraced: Bool
    /// The guest may write the table unnoticed until the next flush.
    public var isUnsynced: Bool
    /// The processor walks the guest's table itself.
    public var isNested: Bool
    /// The processors that walk from here.
    public var processors: [Int]
}

extension ShadowMMU {
    /// The shadow pages in use, by number. Looking at them changes nothing.
    var summaries: [ShadowPageSummary] {
        (1..<max(firstUnused, 1)).compactMap { number in
            let page = pages[number]
            guard page.isInUse else { return nil }
            let isTable = !page.isDirect && !page.isUpper && tables.isRAM(page.guestFrame)
            let frame = isTable ? frames[Int(page.guestFrame)] : FrameState()
            return ShadowPageSummary(
                number: number,
                kind: page.isDirect ? .direct : page.isUpper ? .registers : .table,
                level: page.levelNumber, form: page.isDirect ? nil : page.role.form,
                quadrant: page.role.quadrant, guestFrame: page.guestFrame,
                present: Int(page.present), heat: page.heat,
                isTraced: isTable && isTraced(page.guestFrame), isUnsynced: frame.unsynced != 0,
                isNested: frame.nested != 0,
                processors: liveRoots.indices.filter { liveRoots[$0] == number })
        }
    }
}
