# Builds the addon if there is no CMake: `npm install` without a prebuilt binary. It uses the same sources, flags and
# defines as CMakeLists.txt and writes build/Release/heed.node.
{
  # The instruction sets for which there are kernels, as HEED_ISAS in the environment says: "all" of them (also the
  # default), "here" (the portable one and the widest of this machine), or their names.
  "variables": {"heed_isas": "<!(node scripts/sources.mjs sets)"},
  "target_defaults": {
    "include_dirs": ["native"],
    "cflags!": ["-O2"],
    "cflags_cc!": ["-O2", "-fno-exceptions", "-fno-rtti", "-std=gnu++14", "-std=gnu++20"],
    "cflags_cc": [
      "-std=gnu++17", "-O3", "-fexceptions", "-frtti", "-fvisibility=hidden", "-fvisibility-inlines-hidden",
      "-Werror=missing-declarations", "-Wno-psabi", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"
    ],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "gnu++17",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_ENABLE_CPP_RTTI": "YES",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      "OTHER_CPLUSPLUSFLAGS": [
        "-Werror=missing-declarations", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"
      ]
    },
    "defines": ["HEED_HAS_PORTABLE"],
    "conditions": [
      ["'avx2' in heed_isas", {"defines": ["HEED_HAS_AVX2"]}],
      ["'avx512' in heed_isas", {"defines": ["HEED_HAS_AVX512"]}]
    ]
  },
  "targets": [
    {
      "target_name": "heed",
      "sources": [
        "<!@(node scripts/sources.mjs core)", "<!@(node scripts/sources.mjs addon)", "<!@(node scripts/sources.mjs cuda)"
      ],
      "actions": [{
        "action_name": "toolkit",
        "inputs": ["scripts/compile-kernels.mjs", "scripts/ptx.mjs"],
        "outputs": ["<(INTERMEDIATE_DIR)/toolkit.cc"],
        "action": ["node", "scripts/compile-kernels.mjs", "--toolkit", "<(INTERMEDIATE_DIR)"],
        "process_outputs_as_sources": 1
      }],
      "rules": [{
        "rule_name": "kernels",
        "extension": "cu",
        "inputs": [
          "scripts/compile-kernels.mjs", "scripts/ptx.mjs", "native/cuda/kernels/images.json",
          "<(INTERMEDIATE_DIR)/toolkit.cc"
        ],
        "outputs": ["<(INTERMEDIATE_DIR)/<(RULE_INPUT_ROOT).cc"],
        "action": ["node", "scripts/compile-kernels.mjs", "<(INTERMEDIATE_DIR)", "<(RULE_INPUT_PATH)", "<@(_outputs)"],
        "process_outputs_as_sources": 1
      }],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_CPP_EXCEPTIONS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "dependencies": ["heed_kernels_portable"],
      "conditions": [
        ["'avx2' in heed_isas", {"dependencies": ["heed_kernels_avx2"]}],
        ["'avx512' in heed_isas", {"dependencies": ["heed_kernels_avx512"]}],
        ["OS=='linux'", {
          "ldflags": ["-Wl,-z,nodelete", "-Wl,--gc-sections", "-static-libgcc", "-static-libstdc++"]
        }]
      ]
    },
    {
      "target_name": "heed_kernels_portable",
      "type": "static_library",
      "sources": ["<!@(node scripts/sources.mjs kernels)"],
      "defines": ["HEED_ISA=portable"]
    }
  ],
  "conditions": [
    ["'avx2' in heed_isas", {
      "targets": [
        {
          "target_name": "heed_kernels_avx2",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels)"],
          "defines": ["HEED_ISA=avx2"],
          "cflags_cc": ["<!@(node scripts/sources.mjs isas avx2)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<!@(node scripts/sources.mjs isas avx2)"]}
        }
      ]
    }],
    ["'avx512' in heed_isas", {
      "targets": [
        {
          "target_name": "heed_kernels_avx512",
          "type": "static_library",
          "sources": ["<!@(node scripts/sources.mjs kernels)"],
          "defines": ["HEED_ISA=avx512"],
          "cflags_cc": ["<!@(node scripts/sources.mjs isas avx512)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<!@(node scripts/sources.mjs isas avx512)"]}
        }
      ]
    }]
  ]
}
