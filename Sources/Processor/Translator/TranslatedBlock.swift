import X86

/// A block of guest code that the translator has made host code of, for those who look at its work.
public struct TranslatedBlock: Sendable {
    /// An instruction of the block.
    public struct Part: Sendable {
        /// In bytes from the start of the guest's code.
        public var guestOffset: Int
        /// Where its host code begins, in bytes from the start of the host's.
        public var hostOffset: Int

        package init(guestOffset: Int, hostOffset: Int) {
            self.guestOffset = guestOffset
            self.hostOffset = hostOffset
        }
    }

    /// The number of the processor whose it is.
    public var processor: Int
    /// The linear address at which the block begins. Other processes may execute it elsewhere.
    public var address: GuestVirtualAddress
    /// The machine address of the same byte.
    public var machine: MachineAddress
    /// Whether it is for code at privilege level 3.
    public var isUser: Bool
    public var guestCode: [UInt8]
    /// Where the host's code runs: a host address.
    public var hostAddress: UInt
    public var hostCode: [UInt8]
    /// The guest's instructions, in their order. What comes before the first one's host code enters
    /// the block.
    public var parts: [Part]
    /// Where the code runs that is seldom executed (misses, ways out): a host address elsewhere.
    public var coldAddress: UInt
    public var coldCode: [UInt8]

    package init(
        processor: Int, address: GuestVirtualAddress, machine: MachineAddress, isUser: Bool,
        guestCode: [UInt8], hostAddress: UInt, hostCode: [UInt8], parts: [Part],
        coldAddress: UInt, coldCode: [UInt8]
    ) {
        self.processor = processor
        self.address = address
        self.machine = machine
        self.isUser = isUser
        self.guestCode = guestCode
        self.hostAddress = hostAddress
        self.hostCode = hostCode
        self.parts = parts
        self.coldAddress = coldAddress
        self.coldCode = coldCode
    }
}

/// Code that all of a processor's translations share: how they are entered and left.
public struct SharedHostCode: Sendable {
    public var name: String
    /// The host addresses of its bytes.
    public var addresses: Range<UInt>

    package init(name: String, addresses: Range<UInt>) {
        self.name = name
        self.addresses = addresses
    }
}

extension Processor {
    /// What the processor's translations share; empty under the interpreter.
    public var sharedHostCode: [SharedHostCode] { blocks.translations?.sharedParts ?? [] }
}
