import Boot
import Processor

extension BootRegisters {
    /// The registers that a boot protocol asks for.
    init(_ state: BootState) {
        self.init()
        general = state.generalRegisters
        rip = state.instructionPointer
        rflags = state.flags
        cr0 = state.cr0
        cr3 = state.cr3
        cr4 = state.cr4
        efer = state.efer
        gdt = Table(base: state.gdt.base, limit: state.gdt.limit)
        idt = Table(base: state.idt.base, limit: state.idt.limit)
        code = SegmentValue(state.code)
        data = SegmentValue(state.data)
        task = SegmentValue(state.task)
    }
}

extension BootRegisters.SegmentValue {
    fileprivate init(_ segment: SegmentState) {
        self.init(
            selector: segment.selector, base: segment.base, limit: segment.limit,
            attributes: segment.attributes)
    }
}
