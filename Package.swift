// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let package = Package(
    name: "penumbra",
    products: [
        .executable(name: "penumbra", targets: ["penumbra"]),
        .library(name: "VirtualMachine", targets: ["VirtualMachine"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // Debian's libzydis-dev ships no pkg-config file, so the module map names the library.
        .systemLibrary(name: "CZydis", providers: [.apt(["libzydis-dev"])]),
        .systemLibrary(name: "CHost"),
        module("X86"),
        module("MachineMemory", ["X86", "CHost"]),
        module("Processor", ["X86", "MachineMemory", "CZydis"]),
        module("Hypervisor", ["X86", "MachineMemory", "Processor"]),
        module("Verification", ["X86", "MachineMemory", "Processor"]),
        module("Devices", ["X86"]),
        module(
            "Boot",
            ["X86", .product(name: "SystemPackage", package: "swift-system")]),
        module(
            "VirtualMachine",
            [
                "X86", "MachineMemory", "Processor", "Hypervisor", "Verification", "Devices",
                "Boot",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        module("Reporting", ["X86", "Hypervisor"]),
        .executableTarget(
            name: "penumbra",
            dependencies: [
                "VirtualMachine", "Verification", "Reporting", "Hypervisor", "Processor",
                "MachineMemory", "CZydis",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // What one exit costs: `make bench` builds and runs it.
        .executableTarget(
            name: "mechanism",
            dependencies: ["Hypervisor", "Processor", "MachineMemory", "X86"],
            path: "Benchmarks/Mechanism", swiftSettings: settings),
        tests("X86Tests", ["X86"]),
        tests("MachineMemoryTests", ["MachineMemory", "X86"]),
        tests("ProcessorTests", ["Processor", "MachineMemory", "X86", "CZydis"]),
        tests("HypervisorTests", ["Hypervisor", "Processor", "MachineMemory", "X86"]),
        tests(
            "VerificationTests",
            ["Verification", "Hypervisor", "Processor", "MachineMemory", "X86"]),
        tests("DevicesTests", ["Devices", "X86"]),
        tests(
            "BootTests",
            ["Boot", "X86", .product(name: "SystemPackage", package: "swift-system")]),
        tests(
            "VirtualMachineTests",
            [
                "VirtualMachine", "Verification", "Hypervisor", "Processor", "MachineMemory",
                "X86",
            ]),
        tests("ReportingTests", ["Reporting", "Hypervisor"]),
        // Drives the built program, which `swift test` builds beside it.
        tests("CommandLineTests", []),
    ]
)
