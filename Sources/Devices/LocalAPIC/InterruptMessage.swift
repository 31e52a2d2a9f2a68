/// How an interrupt is to be delivered (SDM Vol. 3A §10.6.1, "Interrupt Command Register",
/// Delivery Mode; 82093AA data sheet §3.2.4, DELMOD).
package enum DeliveryMode: UInt8, Hashable, Sendable {
    case fixed = 0
    case lowestPriority = 1
    case systemManagement = 2
    case reserved = 3
    case nonMaskable = 4
    case initialize = 5
    case startup = 6
    case external = 7

    /// - Parameter bits: bits 10…8 of an ICR, LVT or redirection entry, in the lowest places.
    package init(bits: UInt32) { self = DeliveryMode(rawValue: UInt8(bits & 7)) ?? .reserved }
}

/// An interrupt on its way to one or more local APICs.
package struct InterruptMessage: Hashable, Sendable {
    /// Whom it is for.
    package enum Destination: Hashable, Sendable {
        /// The APIC with this ID; `wide` is a 32-bit ID of x2APIC, otherwise it is 8-bit. All ones
        /// is everyone.
        case physical(UInt32, wide: Bool)
        /// The APICs that this message destination address names by LDR and DFR.
        case logical(UInt32, wide: Bool)
        /// Every APIC but this one.
        case others(than: Int)
        /// Every APIC.
        case all
    }
    package var destination: Destination
    package var mode: DeliveryMode
    package var vector: UInt8
    /// Level-triggered: its EOI goes to the I/O APICs.
    package var isLevel: Bool

    package init(
        destination: Destination, mode: DeliveryMode, vector: UInt8, isLevel: Bool = false
    ) {
        self.destination = destination
        self.mode = mode
        self.vector = vector
        self.isLevel = isLevel
    }
}

/// What carries interrupt messages between APICs.
package protocol InterruptMessageBus: AnyObject {
    /// Delivers a message; false if no local APIC took it.
    @discardableResult
    func send(_ message: InterruptMessage) -> Bool
    /// Tells the I/O APIC that a level-triggered interrupt has been served.
    func broadcastEndOfInterrupt(_ vector: UInt8)
}

/// What a processor is told to do by an INIT or a start-up IPI (SDM Vol. 3A §8.4.3).
public enum StartupEvent: Hashable, Sendable {
    /// Take on the state after INIT. An application processor then waits for `startup`; the
    /// bootstrap processor goes to the reset vector.
    case initialize
    /// Start in real mode at physical address `vector << 12`.
    case startup(vector: UInt8)
}
