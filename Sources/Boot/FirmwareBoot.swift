import X86

/// Loads a PC's firmware: the processor starts in real mode, 16 bytes below the first megabyte's end.
///
/// On a PC the image lies below 4 GiB, with its end visible below 1 MiB too, where the first far jump
/// leads (SDM Vol. 3A §10.1.4). Here it lies below 1 MiB alone and the processor starts there, in memory
/// that can be written: as after the firmware has shadowed itself. Nothing else is in memory; what
/// there is, firmware asks the CMOS memory and `fw_cfg` for.
enum FirmwareBoot {
    /// Sizes of an image in bytes: it begins at a 64 KiB boundary above conventional memory.
    private static let unit: UInt64 = 0x1_0000
    private static let largest: UInt64 = 0x4_0000

    static func load(
        _ file: ImageFile, _ request: BootRequest, _ placement: inout Placement
    ) throws(BootError) -> BootState {
        guard file.size % unit == 0, file.size <= largest else {
            throw .badFirmwareSize(path: file.path, bytes: file.size)
        }
        guard request.initrd == nil, request.commandLine.isEmpty else {
            throw .firmwareTakesNoKernel(path: file.path)
        }
        try placement.write(file.bytes, at: Layout.extendedMemory - file.size)
        return .real16(segment: 0xf000, offset: 0xfff0)
    }
}
