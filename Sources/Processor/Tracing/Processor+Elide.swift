import MachineMemory
import X86

/// The traced-write facility's other half: operations that end staleness are done without an exit
/// where nothing is pending, since a shadow that has nothing to catch up with is not stale.
extension Processor {
    /// Has `exit` follow an INVLPG or INVPCID that has dropped what is cached, unless nothing is
    /// pending.
    func leaveUnlessElided(_ exit: Exit) {
        guard isNothingPending else { return core.exitAfter(exit) }
        if case .invalidatePage = exit {
            statistics.elidedPageInvalidations += 1
        } else {
            statistics.elidedPCIDInvalidations += 1
        }
    }

    /// Makes the shadow root of the CR3 that was loaded the one that is walked, if nothing is
    /// pending and the table of roots has it.
    /// - Returns: whether it did, so that no exit is due.
    func elideRootLoad() -> Bool {
        // PAE tables are named by the pointers that were loaded, and not by CR3.
        guard case .shadow(_, let top) = control.paging, let rules = pagingRules,
            rules.form != .pae, isNothingPending
        else { return false }
        // A shadow serves a guest's tables in every PCID: only where they lie counts.
        let wanted = core.state.cr3 & PagingEntry.addressMask | TraceRoots.valid
        for number in 0..<TraceRoots.count {
            let pair = control.trace.roots + number &* 16
            guard memory.load(UInt64.self, at: pair) == wanted,
                let root = memory.load(UInt64.self, at: pair + 8)
            else { continue }
            control.paging = .shadow(root: MachineAddress(root), top: top)
            statistics.elidedRootLoads += 1
            return true
        }
        return false
    }

    /// Whether operations may be elided, and no processor has a record that is not consumed.
    private var isNothingPending: Bool {
        control.trace.isEnabled && control.trace.elides
            && memory.load(UInt64.self, at: control.trace.common + TraceCommon.outstanding) == 0
    }
}
