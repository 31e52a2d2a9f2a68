/// The command line:
///
///     workload NAME SIZE [WORKERS]    WORKERS: 1 to 64, or all: one on each processor
///     mark begin REGION               the same program under the name `mark`
///     mark end REGION

/// Where the program begins, called with what RSP pointed to.
@c(workloads_main)
public func main(_ stack: UnsafePointer<Int>) -> Int32 {
    guard let program = unsafe Argument(0, on: stack), let first = unsafe Argument(1, on: stack),
        let second = unsafe Argument(2, on: stack)
    else { return usage() }
    if program.isPath(to: "mark") { return mark(first, second) }
    if first == "exit" { return Int32(second.number(atMost: 255) ?? 1) }
    guard let workload = Workload(first) else { return usage() }
    guard let size = second.number(atMost: workload.mostSize), size > 0 else {
        return badSize(workload)
    }
    var workers = 1
    if let third = unsafe Argument(3, on: stack) {
        let count =
            third == "all"
            ? System.processorCount() : third.number(atMost: Shared.mostWorkers) ?? 0
        guard count > 0 else { return usage() }
        workers = count
    }
    let checksum = Workers.run(workload, size: size, workers: workers)
    var line = Line()
    line.append("workload ")
    line.append(workload.name)
    line.append(byte: 0x20)
    line.append(decimal: UInt(size))
    line.append(" workers ")
    line.append(decimal: UInt(workers))
    line.append(" checksum ")
    line.append(hexadecimal: checksum)
    line.write(to: 1)
    return 0
}

private func mark(_ what: Argument, _ region: Argument) -> Int32 {
    guard let number = region.number(atMost: 65535), number > 0 else { return usage() }
    if what == "begin" {
        Region.begin(UInt16(number))
    } else if what == "end" {
        Region.end(UInt16(number))
    } else {
        return usage()
    }
    return 0
}

private func badSize(_ workload: Workload) -> Int32 {
    var line = Line()
    line.append("workload ")
    line.append(workload.name)
    line.append(": the size is a number of ")
    line.append(workload.unit)
    line.append(", 1 to ")
    line.append(decimal: UInt(workload.mostSize))
    line.write(to: 2)
    return 2
}

private func usage() -> Int32 {
    for index in usageLines.indices {
        var line = Line()
        line.append(usageLines[index])
        line.write(to: 2)
    }
    return 2
}

private let usageLines: InlineArray<4, StaticString> = [
    "usage: workload NAME SIZE [WORKERS|all]",
    "       NAME: fork exec cow map protect touch switch syscall random stream read",
    "             integer vector x87 copy",
    "       mark begin|end REGION",
]
