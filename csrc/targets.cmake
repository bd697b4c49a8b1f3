# The targets of each architecture: siglin_add_target(name flags).
# The levels are those of the x86-64 psABI. Adding one: a line here, a line in targets.inc,
# and simd/vec_<name>.h.
if(SIGLIN_ARCHITECTURE STREQUAL "x86_64")
  siglin_add_target(x86_v4 "-march=x86-64-v4")
  siglin_add_target(x86_v3 "-march=x86-64-v3")
  siglin_add_target(x86_v2 "-march=x86-64-v2")
elseif(SIGLIN_ARCHITECTURE STREQUAL "aarch64")
  siglin_add_target(neon "-march=armv8-a")
else()
  message(FATAL_ERROR "siglin has no target for ${SIGLIN_ARCHITECTURE}")
endif()
