import Processor
import Testing
import X86

/// #UD and #NM by CR0.EM, CR0.TS, CR0.MP and CR4.OSFXSR, for each class of instruction.
@Suite struct VectorPermissionTests {
    private struct Row {
        let name: String
        let code: [UInt8]
        let emulation: ExceptionVector?
        let switched: ExceptionVector?
        let both: ExceptionVector?
        let withoutFXSR: ExceptionVector?
    }

    private static let rows = [
        Row(
            name: "fld1", code: [0xd9, 0xe8], emulation: .deviceNotAvailable,
            switched: .deviceNotAvailable, both: .deviceNotAvailable, withoutFXSR: nil),
        Row(
            name: "fnstcw", code: [0xd9, 0x3b], emulation: .deviceNotAvailable,
            switched: .deviceNotAvailable, both: .deviceNotAvailable, withoutFXSR: nil),
        Row(
            name: "fwait", code: [0x9b], emulation: nil, switched: .deviceNotAvailable,
            both: .deviceNotAvailable, withoutFXSR: nil),
        Row(
            name: "paddb mm", code: [0x0f, 0xfc, 0xca], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: nil),
        Row(
            name: "emms", code: [0x0f, 0x77], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: nil),
        Row(
            name: "paddb xmm", code: [0x66, 0x0f, 0xfc, 0xca], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: .invalidOpcode),
        Row(
            name: "movaps", code: [0x0f, 0x28, 0x0b], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: .invalidOpcode),
        Row(
            name: "movq2dq", code: [0xf3, 0x0f, 0xd6, 0xca], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: .invalidOpcode),
        Row(
            name: "stmxcsr", code: [0x0f, 0xae, 0x1b], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: .invalidOpcode),
        Row(
            name: "fxsave", code: [0x0f, 0xae, 0x03], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: nil),
        Row(
            name: "fxrstor", code: [0x0f, 0xae, 0x0b], emulation: .invalidOpcode,
            switched: .deviceNotAvailable, both: .invalidOpcode, withoutFXSR: nil),
        Row(
            name: "mfence", code: [0x0f, 0xae, 0xf0], emulation: nil, switched: nil, both: nil,
            withoutFXSR: nil),
    ]

    @Test("each class of instruction is refused as the manual's tables say")
    func matrix() throws {
        for row in Self.rows {
            func outcome(cr0: UInt64, without cr4: UInt64 = 0) throws -> ExceptionVector? {
                let machine = try VectorMachine()
                machine.cr0 |= cr0
                machine.cr4 &= ~cr4
                machine.savesState = false
                return machine.run(row.code)
            }
            let both = CR0.emulation | CR0.taskSwitched
            #expect(try outcome(cr0: 0) == nil, "\(row.name)")
            #expect(try outcome(cr0: CR0.emulation) == row.emulation, "\(row.name) EM")
            #expect(try outcome(cr0: CR0.taskSwitched) == row.switched, "\(row.name) TS")
            #expect(try outcome(cr0: both) == row.both, "\(row.name) EM TS")
            #expect(
                try outcome(cr0: 0, without: CR4.osFXSR) == row.withoutFXSR, "\(row.name) OSFXSR")
        }
    }

    @Test("FWAIT looks at TS only where MP is set")
    func waitWithoutMonitoring() throws {
        let machine = try VectorMachine()
        machine.cr0 = (machine.cr0 | CR0.taskSwitched) & ~CR0.monitorCoprocessor
        #expect(machine.run([0x9b]) == nil)
    }
}
