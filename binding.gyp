{
  # Thin adapter: node-gyp and prebuildify ask for a binding.gyp; the build itself is CMakeLists.txt. CMake's folder is
  # not below build/, which node-gyp deletes first.
  "targets": [
    {
      "target_name": "node_collectives",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/node_collectives.node"],
          "action": [
            "node", "node_modules/cmake-js/bin/cmake-js", "build",
            "--out", ".cache/prebuild",
            "--config", "<(CONFIGURATION_NAME)",
            "--CDADDON_OUTPUT_DIR=<(PRODUCT_DIR)"
          ]
        }
      ]
    }
  ]
}
