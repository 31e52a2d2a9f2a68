import MachineMemory
import X86

/// The four pointer registers of PAE paging (SDM Vol. 3A §4.4.1).
extension Processor {
    /// Loads the pointers from where `cr3` points, if `form` is PAE paging. It is done before the
    /// operation that causes it has changed anything.
    /// - Returns: whether the form has them; nil after raising #GP(0), where a present one has a
    ///   reserved bit set, or an exit. Nothing is loaded then.
    func loadPointers(cr3: UInt64, form: PagingForm?) -> Bool? {
        guard form == .pae else { return false }
        guard let loaded = readPointers(cr3: cr3) else { return nil }
        core.state.pointers = loaded
        return true
    }

    /// Reads what the pointers are to be where `cr3` points, for an operation that may yet fault
    /// before they are loaded.
    /// - Returns: nil after raising #GP(0), where a present one has a reserved bit set, or an exit.
    func readPointers(cr3: UInt64) -> SIMD4<UInt64>? {
        var machine = cr3 & PagingForm.pae.rootMask
        switch control.paging {
        case .guest: break
        case .shadow: machine = memory.machineAddress(of: GuestPhysicalAddress(machine)).rawValue
        case .nested(let root), .agile(_, let root, _):
            guard let found = translateSecond(machine, root.rawValue, write: false, []) else {
                return nil
            }
            machine = found.machine
        }
        var loaded = SIMD4<UInt64>()
        for index in 0..<4 {
            loaded[index] = readEntry(machine &+ UInt64(index) &* 8, .pae).rawValue
        }
        guard pointersAreValid(loaded) else {
            _ = core.generalProtection()
            return nil
        }
        return loaded
    }

    /// Whether none of four pointers is present and has a reserved bit set.
    func pointersAreValid(_ pointers: SIMD4<UInt64>) -> Bool {
        let rules = PagingRules(
            form: .pae, physicalAddressBits: model.physicalAddressBits,
            executeDisable: false, gigabytePages: false, pageSizeExtensions: false)
        for index in 0..<4 {
            let pointer = PagingEntry(pointers[index])
            if pointer.isPresent, rules.reservedBits(pointer, at: .directoryPointer) != 0 {
                return false
            }
        }
        return true
    }
}
