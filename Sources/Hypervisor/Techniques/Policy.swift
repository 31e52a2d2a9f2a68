/// What a technique asks of the processors and of the shadow machinery.
///
/// The techniques share one guest walker, one pool of shadow pages, one set of reverse maps and one
/// way of bringing an entry up to date. They differ in nothing but these values.
package struct Policy: Equatable, Sendable {
    /// Which tables the processors walk.
    package enum Walked: Equatable, Sendable {
        /// The guest's own; guest-physical is machine.
        case guest
        /// The hypervisor's, guest virtual → machine.
        case shadow
        /// The guest's own, and a second dimension of the hypervisor's, guest-physical → machine.
        case nested
    }

    /// How a leaf that maps a frame which holds a guest table keeps writes from passing unnoticed.
    package enum Protection: Equatable, Sendable {
        /// T, or a bit in the map of frames: the processor records the write and goes on. The shadow is brought up to date from
        /// the records, at coherency-inducing operations.
        case recorded
        /// T, and D clear: the write exits. The hypervisor has the processor complete it, and
        /// brings the shadow up to date at once. Under `recorded` this is for the levels that are
        /// not traced.
        case readOnly
    }

    package var walked: Walked
    package var protection: Protection
    /// Whether the first write to a protected table of the lowest level makes it writable and
    /// *unsynced*: later writes pass unnoticed, and what may have changed is re-read at operations
    /// that end staleness.
    package var unsyncsLeafTables = false
    /// When a protected table becomes *nested*, and when it returns; nil: never.
    package var nesting: NestingParameters?
    /// Whether INVLPG and INVPCID exit: something may be left to do at them.
    package var exitsOnInvalidation: Bool
    /// The traced-write facility, where writes are recorded.
    package var trace: TraceParameters?
    /// Whether an entry that was written is installed when it is read again, where that is lawful.
    package var refills = false
    /// When the shadow of a page that is written as no table is goes away.
    package var stop = StopRule.standard

    /// Whether only tables that are used at the lowest level alone are recorded.
    var tracesLeavesAlone: Bool { trace?.levels == .leaf }
    /// Whether a map of frames says what is recorded, instead of T in leaves.
    var tracesByFrame: Bool { trace?.indication == .frame }
    /// Deliberate mistakes, for tests.
    package var defects: Defects = []

    /// The policy for tests of the shadow alone.
    package static func shadow(_ protection: Protection, unsyncsLeafTables: Bool = false)
        -> Policy
    {
        Policy(
            walked: .shadow, protection: protection, unsyncsLeafTables: unsyncsLeafTables,
            exitsOnInvalidation: protection == .recorded || unsyncsLeafTables, trace: nil)
    }

    /// Shadow tables that are protected, and nested where they are written often.
    package static func agile(_ nesting: NestingParameters) -> Policy {
        Policy(
            walked: .shadow, protection: .readOnly, nesting: nesting, exitsOnInvalidation: false,
            trace: nil)
    }
}

extension Technique {
    /// What the technique asks for.
    package var policy: Policy {
        switch self {
        case .bare:
            Policy(
                walked: .guest, protection: .recorded, exitsOnInvalidation: false, trace: nil)
        case .trap(let parameters):
            Policy(
                walked: .shadow, protection: .readOnly, exitsOnInvalidation: false,
                refills: parameters.refill, stop: parameters.stop)
        case .unsync: .shadow(.readOnly, unsyncsLeafTables: true)
        case .agile(let parameters): .agile(parameters)
        case .nested:
            Policy(
                walked: .nested, protection: .recorded, exitsOnInvalidation: false, trace: nil)
        case .traced(let parameters):
            Policy(
                walked: .shadow, protection: .recorded, exitsOnInvalidation: true,
                trace: parameters, refills: parameters.refill, stop: parameters.stop)
        }
    }
}
