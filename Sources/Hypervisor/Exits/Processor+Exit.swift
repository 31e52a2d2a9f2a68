import Processor
import X86

extension ExitReason {
    /// The reason that stands for an exit; nil for the end of a write that was counted already.
    init?(_ exit: Exit) {
        let reason: ExitReason? =
            switch exit {
            case .limit: .limit
            case .halted: .halted
            case .stopped: .stopped
            case .tripleFault: .tripleFault
            case .pageFault: .pageFault
            case .secondDimensionFault: .secondDimensionFault
            case .rootLoaded: .rootLoaded
            case .invalidatePage: .invalidatePage
            case .invalidatePCID: .invalidatePCID
            case .pagingModeChanged: .pagingModeChanged
            case .bufferThreshold: .bufferThreshold
            case .bufferFull: .bufferFull
            case .writeCompleted: nil
            }
        guard let reason else { return nil }
        self = reason
    }
}

extension Processor: TranslationCacheControl {}

extension Processor {
    /// The guest-physical address of the guest's root; 0 without paging.
    var guestRoot: UInt64 {
        PagingForm(cr0: cr0, cr4: cr4, efer: efer).map { cr3 & $0.rootMask } ?? 0
    }

    /// What of the processor's present state decides how a translation is made.
    var guestMode: GuestMode {
        GuestMode(
            cr0: cr0, cr3: cr3, cr4: cr4, efer: efer, pointers: pointers,
            alignmentCheck: alignmentCheckFlag, keyRights: keyRights,
            physicalAddressBits: physicalAddressBits, hasGigabytePages: hasGigabytePages)
    }
}
