# The targets of each architecture: siglin_add_target(name optimisation flags).
# The levels are those of the x86-64 psABI. Adding one: a line here, a line in targets.inc,
# and simd/vec_<name>.h.
#
# The wheel has a budget. x86_v4 is as fast at -O2 as at -O3, x86_v3 loses 6 to 15 % of a
# step (64-32-10, 784-128-10), and x86_v2 is for CPUs without AVX2.
if(SIGLIN_ARCHITECTURE STREQUAL "x86_64")
  siglin_add_target(x86_v4 -O2 "-march=x86-64-v4")
  siglin_add_target(x86_v3 -O3 "-march=x86-64-v3")
  siglin_add_target(x86_v2 -Os "-march=x86-64-v2")
elseif(SIGLIN_ARCHITECTURE STREQUAL "aarch64")
  siglin_add_target(neon -O3 "-march=armv8-a")
else()
  message(FATAL_ERROR "siglin has no target for ${SIGLIN_ARCHITECTURE}")
endif()
