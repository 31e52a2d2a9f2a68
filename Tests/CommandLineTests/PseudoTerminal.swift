import Glibc

/// Two ends of a terminal that no screen belongs to: pty(7).
final class PseudoTerminal {
    /// The keyboard's and screen's end.
    private var controller: Int32
    /// The program's end.
    let terminal: Int32
    private(set) var shown: [UInt8] = []

    init() throws {
        // What posix_openpt, unlockpt and ptsname do; Glibc declares those only under _XOPEN_SOURCE.
        controller = try Program.openFile("/dev/ptmx", O_RDWR | O_NOCTTY)
        var locked: Int32 = 0
        var number: UInt32 = 0
        guard unsafe ioctl(controller, Self.setLock, &locked) == 0,
            unsafe ioctl(controller, Self.getNumber, &number) == 0
        else { throw SystemError(call: "ioctl /dev/ptmx", errno: errno) }
        terminal = try Program.openFile("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
    }

    /// TIOCSPTLCK and TIOCGPTN: ioctl_tty(2).
    private static let setLock: UInt = 0x4004_5431
    private static let getNumber: UInt = 0x8004_5430

    deinit {
        hangUp()
        close(terminal)
    }

    /// Takes the keyboard and the screen away.
    func hangUp() {
        if controller >= 0 { close(controller) }
        controller = -1
    }

    /// Presses keys.
    func type(_ text: String) throws {
        let bytes = Array(text.utf8)
        let count = unsafe write(controller, bytes, bytes.count)
        guard count == bytes.count else { throw SystemError(call: "write to pty", errno: errno) }
    }

    /// Reads the screen until `text` has been shown since the last such call; false where the other
    /// end is silent for a minute.
    func waits(for text: String) -> Bool {
        let wanted = Array(text.utf8)
        while true {
            for start in shown.indices where shown[start...].starts(with: wanted) {
                shown.removeFirst(start + wanted.count)
                return true
            }
            var entry = pollfd(fd: controller, events: Int16(POLLIN), revents: 0)
            guard unsafe poll(&entry, 1, 60_000) > 0 else { return false }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = unsafe read(controller, &bytes, bytes.count)
            guard count > 0 else { return false }
            shown += bytes[..<count]
        }
    }

    /// The terminal's settings, those that raw mode changes: input, output, control, local modes
    /// and control characters.
    var settings: [UInt32] {
        var settings = termios()
        guard unsafe tcgetattr(terminal, &settings) == 0 else { return [] }
        let characters = unsafe withUnsafeBytes(of: &settings.c_cc) { unsafe $0.map(UInt32.init) }
        return [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag] + characters
    }

    /// Whether keys reach the program one by one, unechoed, Ctrl-C included.
    var isRaw: Bool {
        settings.count > 3 && settings[3] & UInt32(ICANON | ECHO | ISIG) == 0
    }

    /// Waits, up to a minute, until the terminal is raw.
    func waitsUntilRaw() -> Bool {
        for _ in 0..<6_000 {
            if isRaw { return true }
            usleep(10_000)
        }
        return false
    }
}
