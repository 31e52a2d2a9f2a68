// What an interpreter costs at the least on this machine: the loop of loop.s as an array of operation
// structs and a `switch`, with nothing of a processor around it (no flags but ZF, no memory, no
// faults, no limit). Compiled alone, with -O; prints the operations a second and the loop's result.
//
// Usage: reference ROUNDS

import Glibc

enum Kind: UInt8 {
    case add, xor, move, shiftLeft, subtract, andImmediate, orImmediate, addImmediate, decrement
    case jumpIfNotZero
}

struct Operation {
    var kind: Kind
    var a: UInt8 = 0
    var b: UInt8 = 0
    var immediate: UInt64 = 0
}

/// Runs the operations until the last one's jump is not taken.
@inline(never)
func run(_ operations: [Operation], _ registers: inout InlineArray<8, UInt64>) -> UInt64 {
    var count: UInt64 = 0
    var index = 0
    var isZero = false
    while index < operations.count {
        let operation = operations[index]
        let a = Int(operation.a & 7)
        let b = Int(operation.b & 7)
        index &+= 1
        count &+= 1
        switch operation.kind {
        case .add: registers[a] &+= registers[b]
        case .xor: registers[a] ^= registers[b]
        case .move: registers[a] = registers[b]
        case .shiftLeft: registers[a] &<<= operation.immediate
        case .subtract: registers[a] &-= registers[b]
        case .andImmediate: registers[a] &= operation.immediate
        case .orImmediate: registers[a] |= operation.immediate
        case .addImmediate: registers[a] &+= operation.immediate
        case .decrement:
            registers[a] &-= 1
            isZero = registers[a] == 0
        case .jumpIfNotZero: if !isZero { index = Int(operation.immediate) }
        }
    }
    return count
}

func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI
let (rax, rcx, rdx, rbx, rsi): (UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 1, 2, 3, 6)
let loop = [
    Operation(kind: .add, a: rax, b: rbx),
    Operation(kind: .xor, a: rdx, b: rax),
    Operation(kind: .move, a: rsi, b: rax),
    Operation(kind: .shiftLeft, a: rsi, immediate: 3),
    Operation(kind: .subtract, a: rbx, b: rsi),
    Operation(kind: .andImmediate, a: rbx, immediate: 0xfff_ffff),
    Operation(kind: .orImmediate, a: rbx, immediate: 1),
    Operation(kind: .addImmediate, a: rdx, immediate: 7),
    Operation(kind: .decrement, a: rcx),
    Operation(kind: .jumpIfNotZero, immediate: 0),
]
let rounds = CommandLine.arguments.count == 2 ? UInt64(CommandLine.arguments[1]) ?? 0 : 0
guard rounds > 0 else {
    print("usage: reference ROUNDS")
    exit(64)
}
var registers = InlineArray<8, UInt64>(repeating: 0)
registers[Int(rbx)] = 1
registers[Int(rcx)] = rounds
let start = seconds()
let count = run(loop, &registers)
let elapsed = seconds() - start
print(UInt64(Double(count) / elapsed), registers[Int(rdx)])
