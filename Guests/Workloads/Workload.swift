/// What can be run. Each is told how much to do by a *size*, of the unit that `unit` names.
///
/// A workload prepares what it needs, passes the gate, where its region begins, and works. What it
/// returns is a checksum of what it found, the same in every run.
enum Workload: UInt16 {
    case fork = 1
    case exec = 2
    case cow = 3
    case map = 4
    case protect = 5
    case touch = 6
    case `switch` = 7
    case syscall = 8
    case random = 9
    case stream = 10
    case read = 11
    // 12 is the region of the script `compile`.
    case integer = 13
    case vector = 14
    case x87 = 15
    case copy = 16

    /// The number of its region.
    var region: UInt16 { rawValue }

    init?(_ name: Argument) {
        for number in 1...16 as ClosedRange<UInt16> {
            guard let workload = Workload(rawValue: number) else { continue }
            if name == workload.name {
                self = workload
                return
            }
        }
        return nil
    }

    var name: StaticString {
        switch self {
        case .fork: "fork"
        case .exec: "exec"
        case .cow: "cow"
        case .map: "map"
        case .protect: "protect"
        case .touch: "touch"
        case .switch: "switch"
        case .syscall: "syscall"
        case .random: "random"
        case .stream: "stream"
        case .read: "read"
        case .integer: "integer"
        case .vector: "vector"
        case .x87: "x87"
        case .copy: "copy"
        }
    }

    /// What its size counts.
    var unit: StaticString {
        switch self {
        case .fork, .exec: "processes"
        case .cow, .touch: "pages"
        case .map, .protect, .integer, .vector: "times"
        case .switch: "round trips"
        case .syscall: "calls"
        case .random, .stream, .read, .copy: "MiB"
        case .x87: "thousands"
        }
    }

    /// The largest size: what fits into an address, and comes to an end.
    var mostSize: Int {
        switch self {
        case .random, .stream, .read, .copy: 1 << 20
        case .cow, .touch: 1 << 28
        default: 1_000_000_000
        }
    }

    /// Whether several workers share one address space, so that what one unmaps or protects has to
    /// be invalidated on the others' processors; otherwise they are processes of their own.
    var sharesMemory: Bool {
        switch self {
        case .map, .protect, .touch, .random, .stream: true
        default: false
        }
    }

    func run(size: Int, _ gate: Gate) -> UInt64 {
        switch self {
        case .fork: Processes.fork(size, gate)
        case .exec: Processes.exec(size, gate)
        case .cow: Processes.copyOnWrite(size, gate)
        case .switch: Processes.switchBetween(size, gate)
        case .syscall: Processes.callSystem(size, gate)
        case .map: Mappings.map(size, gate)
        case .protect: Mappings.protect(size, gate)
        case .touch: Mappings.touch(size, gate)
        case .random: Accesses.random(size, gate)
        case .stream: Accesses.stream(size, gate)
        case .read: Accesses.read(size, gate)
        case .integer: Arithmetic.integer(size, gate)
        case .vector: Arithmetic.vector(size, gate)
        case .x87: Arithmetic.x87(size, gate)
        case .copy: Arithmetic.copy(size, gate)
        }
    }
}
