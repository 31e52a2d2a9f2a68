// A table: one row an operation and operand size.
/// The handlers of the two-operand operations: a table, one row an operand size.
///
/// A C function pointer cannot be formed from generic code, so each specialisation is written out.
struct BinaryHandlers {
    var registerRegister: Handler
    var registerImmediate: Handler
    var registerMemory: Handler
    var memoryRegister: Handler
    var memoryImmediate: Handler

    /// The handler for an op's operand kinds, or nil where the combination does not exist.
    func handler(_ op: Op) -> Handler? {
        switch (op.destination, op.source) {
        case (.register, .register): registerRegister
        case (.register, .immediate): registerImmediate
        case (.register, .memory): registerMemory
        case (.memory, .register): memoryRegister
        case (.memory, .immediate): memoryImmediate
        default: nil
        }
    }
}

enum BinaryTable {
    /// The row for an operand size in bytes.
    static func row(_ rows: [BinaryHandlers], _ width: UInt8) -> BinaryHandlers {
        rows[width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3]
    }

    static let add = [
        BinaryHandlers(
            registerRegister: { binaryRR(Add.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(Add.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(Add.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(Add.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(Add.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Add.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(Add.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(Add.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(Add.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(Add.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Add.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(Add.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(Add.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(Add.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(Add.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Add.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(Add.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(Add.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(Add.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(Add.self, UInt64.self, $0, $1) }),
    ]
    static let addWithCarry = [
        BinaryHandlers(
            registerRegister: { binaryRR(AddWithCarry.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(AddWithCarry.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(AddWithCarry.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(AddWithCarry.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(AddWithCarry.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(AddWithCarry.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(AddWithCarry.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(AddWithCarry.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(AddWithCarry.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(AddWithCarry.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(AddWithCarry.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(AddWithCarry.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(AddWithCarry.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(AddWithCarry.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(AddWithCarry.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(AddWithCarry.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(AddWithCarry.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(AddWithCarry.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(AddWithCarry.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(AddWithCarry.self, UInt64.self, $0, $1) }),
    ]
    static let subtract = [
        BinaryHandlers(
            registerRegister: { binaryRR(Subtract.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(Subtract.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(Subtract.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(Subtract.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(Subtract.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Subtract.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(Subtract.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(Subtract.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(Subtract.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(Subtract.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Subtract.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(Subtract.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(Subtract.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(Subtract.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(Subtract.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Subtract.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(Subtract.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(Subtract.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(Subtract.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(Subtract.self, UInt64.self, $0, $1) }),
    ]
    static let subtractWithBorrow = [
        BinaryHandlers(
            registerRegister: { binaryRR(SubtractWithBorrow.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(SubtractWithBorrow.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(SubtractWithBorrow.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(SubtractWithBorrow.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(SubtractWithBorrow.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(SubtractWithBorrow.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(SubtractWithBorrow.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(SubtractWithBorrow.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(SubtractWithBorrow.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(SubtractWithBorrow.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(SubtractWithBorrow.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(SubtractWithBorrow.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(SubtractWithBorrow.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(SubtractWithBorrow.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(SubtractWithBorrow.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(SubtractWithBorrow.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(SubtractWithBorrow.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(SubtractWithBorrow.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(SubtractWithBorrow.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(SubtractWithBorrow.self, UInt64.self, $0, $1) }),
    ]
    static let compare = [
        BinaryHandlers(
            registerRegister: { binaryRR(Compare.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(Compare.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(Compare.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(Compare.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(Compare.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Compare.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(Compare.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(Compare.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(Compare.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(Compare.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Compare.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(Compare.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(Compare.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(Compare.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(Compare.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Compare.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(Compare.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(Compare.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(Compare.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(Compare.self, UInt64.self, $0, $1) }),
    ]
    static let and = [
        BinaryHandlers(
            registerRegister: { binaryRR(And.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(And.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(And.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(And.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(And.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(And.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(And.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(And.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(And.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(And.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(And.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(And.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(And.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(And.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(And.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(And.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(And.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(And.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(And.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(And.self, UInt64.self, $0, $1) }),
    ]
    static let or = [
        BinaryHandlers(
            registerRegister: { binaryRR(Or.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(Or.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(Or.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(Or.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(Or.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Or.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(Or.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(Or.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(Or.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(Or.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Or.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(Or.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(Or.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(Or.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(Or.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Or.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(Or.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(Or.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(Or.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(Or.self, UInt64.self, $0, $1) }),
    ]
    static let exclusiveOr = [
        BinaryHandlers(
            registerRegister: { binaryRR(ExclusiveOr.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(ExclusiveOr.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(ExclusiveOr.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(ExclusiveOr.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(ExclusiveOr.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(ExclusiveOr.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(ExclusiveOr.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(ExclusiveOr.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(ExclusiveOr.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(ExclusiveOr.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(ExclusiveOr.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(ExclusiveOr.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(ExclusiveOr.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(ExclusiveOr.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(ExclusiveOr.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(ExclusiveOr.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(ExclusiveOr.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(ExclusiveOr.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(ExclusiveOr.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(ExclusiveOr.self, UInt64.self, $0, $1) }),
    ]
    static let test = [
        BinaryHandlers(
            registerRegister: { binaryRR(Test.self, UInt8.self, $0, $1) },
            registerImmediate: { binaryRI(Test.self, UInt8.self, $0, $1) },
            registerMemory: { binaryRM(Test.self, UInt8.self, $0, $1) },
            memoryRegister: { binaryMR(Test.self, UInt8.self, $0, $1) },
            memoryImmediate: { binaryMI(Test.self, UInt8.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Test.self, UInt16.self, $0, $1) },
            registerImmediate: { binaryRI(Test.self, UInt16.self, $0, $1) },
            registerMemory: { binaryRM(Test.self, UInt16.self, $0, $1) },
            memoryRegister: { binaryMR(Test.self, UInt16.self, $0, $1) },
            memoryImmediate: { binaryMI(Test.self, UInt16.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Test.self, UInt32.self, $0, $1) },
            registerImmediate: { binaryRI(Test.self, UInt32.self, $0, $1) },
            registerMemory: { binaryRM(Test.self, UInt32.self, $0, $1) },
            memoryRegister: { binaryMR(Test.self, UInt32.self, $0, $1) },
            memoryImmediate: { binaryMI(Test.self, UInt32.self, $0, $1) }),
        BinaryHandlers(
            registerRegister: { binaryRR(Test.self, UInt64.self, $0, $1) },
            registerImmediate: { binaryRI(Test.self, UInt64.self, $0, $1) },
            registerMemory: { binaryRM(Test.self, UInt64.self, $0, $1) },
            memoryRegister: { binaryMR(Test.self, UInt64.self, $0, $1) },
            memoryImmediate: { binaryMI(Test.self, UInt64.self, $0, $1) }),
    ]
}
