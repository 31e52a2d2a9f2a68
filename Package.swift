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
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Debian's libzydis-dev ships no pkg-config file, so the module map names the library.
        .systemLibrary(name: "CZydis", providers: [.apt(["libzydis-dev"])]),
        .systemLibrary(name: "CHost"),
        // Only the one-shot hash is used; its pkg-config file would bring in flags that need not be.
        .systemLibrary(name: "CCrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(
            name: "CZstandard", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(
            name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        module("X86"),
        module("Snapshot"),
        module("MachineMemory", ["X86", "CHost"]),
        module("Processor", ["X86", "MachineMemory", "Snapshot", "CZydis"]),
        module("Hypervisor", ["X86", "MachineMemory", "Processor"]),
        module("Verification", ["X86", "MachineMemory", "Processor"]),
        module("Devices", ["X86", "Snapshot"]),
        module(
            "Boot",
            ["X86", .product(name: "SystemPackage", package: "swift-system")]),
        module(
            "VirtualMachine",
            [
                "X86", "Snapshot", "MachineMemory", "Processor", "Hypervisor", "Verification",
                "Devices", "Boot", "CZstandard", "CXXHash",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        module("Debugger", ["X86", "Processor", "Hypervisor", "VirtualMachine"]),
        module("Reporting", ["X86", "Hypervisor", "Processor", "CZydis"]),
        .target(
            name: "Comparison",
            dependencies: [
                "Reporting", "Hypervisor", "Processor", "CCrypto",
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Yams", package: "Yams"),
            ],
            // In the program itself, which so needs no file beside it.
            resources: [
                .embedInCode("Profiles/sandy-bridge.yaml"),
                .embedInCode("Profiles/cascade-lake.yaml"),
                .embedInCode("Profiles/nested-cloud.yaml"),
                .embedInCode("Report/page.html"),
                .embedInCode("Report/page.css"),
                .embedInCode("Report/elements.js"),
                .embedInCode("Report/charts.js"),
                .embedInCode("Report/tables.js"),
                .embedInCode("Report/sections.js"),
                .embedInCode("Report/page.js"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "penumbra",
            dependencies: [
                "VirtualMachine", "Debugger", "Verification", "Reporting", "Comparison",
                "Hypervisor", "Processor", "MachineMemory", "X86", "CZydis",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        // What one exit costs: `make bench` builds and runs it.
        .executableTarget(
            name: "mechanism",
            dependencies: ["Hypervisor", "Processor", "MachineMemory", "X86"],
            path: "Benchmarks/Mechanism", swiftSettings: settings),
        // The modelled processor against the host's own, for the tests and `make fuzz`.
        .systemLibrary(name: "CTracing", path: "Tests/CTracing"),
        .target(
            name: "Differential",
            dependencies: ["Processor", "MachineMemory", "X86", "CZydis", "CHost", "CTracing"],
            path: "Tests/Differential", swiftSettings: settings),
        .executableTarget(
            name: "fuzz", dependencies: ["Differential", "X86"], path: "Tests/Fuzz",
            swiftSettings: settings),
        tests("X86Tests", ["X86"]),
        tests("SnapshotTests", ["Snapshot"]),
        tests("MachineMemoryTests", ["MachineMemory", "X86"]),
        tests(
            "ProcessorTests", ["Processor", "MachineMemory", "X86", "CZydis", "Differential"]),
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
                "Devices", "Snapshot", "X86",
                .product(name: "SystemPackage", package: "swift-system"),
            ]),
        tests(
            "DebuggerTests", ["Debugger", "VirtualMachine", "Hypervisor", "Processor", "X86"]),
        tests("ReportingTests", ["Reporting", "Hypervisor", "Processor", "X86"]),
        tests(
            "ComparisonTests",
            [
                "Comparison", "Reporting", "Hypervisor",
                .product(name: "GRDB", package: "GRDB.swift"),
            ]),
        // Drives the built program, which `swift test` builds beside it.
        tests("CommandLineTests", ["Processor", .product(name: "GRDB", package: "GRDB.swift")]),
    ]
)
