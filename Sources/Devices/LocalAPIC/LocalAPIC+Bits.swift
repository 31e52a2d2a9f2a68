extension LocalAPIC {
    /// Register numbers: the offset in the xAPIC page divided by 16, which is also the distance of
    /// the x2APIC MSR from 0x800 (SDM Vol. 3A Table 10-1, Table 10-6).
    enum Register {
        static let id: UInt32 = 0x02
        static let version: UInt32 = 0x03
        static let taskPriority: UInt32 = 0x08  // TPR
        static let arbitrationPriority: UInt32 = 0x09  // APR
        static let processorPriority: UInt32 = 0x0a  // PPR
        static let endOfInterrupt: UInt32 = 0x0b  // EOI
        static let remoteRead: UInt32 = 0x0c  // RRD
        static let logicalDestination: UInt32 = 0x0d  // LDR
        static let destinationFormat: UInt32 = 0x0e  // DFR
        static let spuriousVector: UInt32 = 0x0f  // SVR
        static let inService: ClosedRange<UInt32> = 0x10...0x17  // ISR
        static let triggerMode: ClosedRange<UInt32> = 0x18...0x1f  // TMR
        static let requests: ClosedRange<UInt32> = 0x20...0x27  // IRR
        static let errorStatus: UInt32 = 0x28  // ESR
        static let commandLow: UInt32 = 0x30  // ICR 31…0
        static let commandHigh: UInt32 = 0x31  // ICR 63…32
        static let localVectors: ClosedRange<UInt32> = 0x32...0x37  // LVT
        static let initialCount: UInt32 = 0x38
        static let currentCount: UInt32 = 0x39
        static let divideConfiguration: UInt32 = 0x3e  // DCR
        static let selfInterrupt: UInt32 = 0x3f  // x2APIC only
    }

    /// IA32_APIC_BASE (§10.4.4, §10.12.1).
    enum Base {
        static let bootstrap: UInt64 = 1 << 8  // BSP
        static let extended: UInt64 = 1 << 10  // EXTD
        static let enable: UInt64 = 1 << 11  // EN
    }

    /// The three states of IA32_APIC_BASE's EN and EXTD (Table 10-5).
    enum Mode { case disabled, xAPIC, x2APIC }

    /// The local vector table, in the order of its registers (§10.5.1).
    enum LocalVector: Int, CaseIterable {
        case timer, thermal, performance, lint0, lint1, error

        /// The bits that software can write.
        var writable: UInt32 {
            switch self {
            case .timer: 0x0007_00ff  // mode 18…17, mask 16
            case .thermal, .performance: 0x0001_07ff  // delivery mode 10…8
            case .lint0, .lint1: 0x0001_a7ff  // trigger 15, polarity 13
            case .error: 0x0001_00ff
            }
        }

        /// The bits that are there for reading: delivery status, and remote IRR of an input.
        var readable: UInt32 {
            switch self {
            case .lint0, .lint1: LocalVectorBit.readOnly
            case .timer, .thermal, .performance, .error: LocalVectorBit.deliveryStatus
            }
        }
    }

    /// Bits that local vectors share.
    enum LocalVectorBit {
        static let deliveryStatus: UInt32 = 1 << 12
        static let remoteIRR: UInt32 = 1 << 14
        static let level: UInt32 = 1 << 15
        static let mask: UInt32 = 1 << 16
        /// Delivery status and remote IRR: for reading.
        static let readOnly: UInt32 = deliveryStatus | remoteIRR
    }

    /// Spurious-interrupt vector register (§10.9).
    enum Spurious {
        static let enable: UInt32 = 1 << 8
        static let suppressBroadcast: UInt32 = 1 << 12
        /// Vector, enable, focus checking (which does nothing) and EOI-broadcast suppression.
        static let writable: UInt32 = 0x13ff
    }

    /// Error status register (§10.5.3).
    enum ErrorStatus {
        static let sendIllegalVector: UInt32 = 1 << 5
        static let receiveIllegalVector: UInt32 = 1 << 6
        static let illegalRegister: UInt32 = 1 << 7
    }

    /// LVT timer mode, bits 18…17 (§10.5.4).
    enum TimerMode: UInt32 { case oneShot, periodic, deadline, reserved }
}
