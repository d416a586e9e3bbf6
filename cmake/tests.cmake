# The test programs, the runners for recorded vectors, the examples and the benchmarks.
# Included from CMakeLists.txt where THAW_TESTS is on.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

# One thread that does not spin: the same bits on any machine, and no fight for two cores.
set(test_environment OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
    ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
    LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/lsan.txt:print_suppressions=0
    TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.txt:print_suppressions=0)

function(thaw_add_test name)
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "${test_environment}" TIMEOUT 600)
endfunction()

# One program per source file, tests/LAYER/test_FILE.c, against the internal library.
foreach(test ${THAW_UNIT_TESTS})
    cmake_path(GET test FILENAME name)
    cmake_path(GET test PARENT_PATH layer)
    add_executable(${name} tests/${test}.c ${THAW_SHARED_TESTS_${layer}})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
    target_include_directories(${name} PRIVATE tests)
    target_compile_definitions(${name} PRIVATE THAW_TEST_DIR="${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(${name} PRIVATE thaw-internal PkgConfig::CMOCKA)
    thaw_add_test(${test} ${PROJECT_BINARY_DIR}/tests/${name})
endforeach()
# Ten runs of whole networks.
set_tests_properties(train/test_footprint PROPERTIES LABELS slow)

# Programs beside the product: they read files given on the command line.
foreach(source ${THAW_RUNNERS} ${THAW_BENCHES})
    cmake_path(GET source STEM name)
    add_executable(${name} ${source} ${THAW_PARTS_${name}})
    target_include_directories(${name} PRIVATE tests)
    target_compile_definitions(${name} PRIVATE THAW_TEST_DIR="${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(${name} PRIVATE thaw-internal)
endforeach()

thaw_add_test(recorded/golden golden_run ${PROJECT_SOURCE_DIR}/tests/golden)

# Recorded training runs: with sums in double all of them; with sums in float those whose ReLUs do
# not stand on the edge, where a last bit, which differs between instruction sets, decides which way
# a unit goes.
function(thaw_add_oracle name label timeout)
    list(TRANSFORM ARGN REPLACE "^([a-z]+[0-9]*_.*)$"
        "${PROJECT_SOURCE_DIR}/tests/golden/oracle/\\1.json.gz" OUTPUT_VARIABLE arguments)
    thaw_add_test(recorded/${name} oracle_run ${arguments})
    set_tests_properties(recorded/${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout})
endfunction()
thaw_add_oracle(mlp_f64 fast 300 --executor ref --f64 mlp_clip_refreeze mlp_keep_optimizer
    mlp_phases_adam mlp_sgd mlp_zero_coefficient)
thaw_add_oracle(mlp_ref fast 300 --executor ref mlp_clip_refreeze mlp_keep_optimizer
    mlp_phases_adam mlp_sgd mlp_zero_coefficient)
thaw_add_oracle(mlp fast 300 mlp_clip_refreeze mlp_keep_optimizer mlp_phases_adam mlp_sgd
    mlp_zero_coefficient)
thaw_add_oracle(resnet slow 900 resnet18_frozen_bn_train resnet18_full_sgd resnet18_head_then_all
    resnet50_first_step resnet50_layer4)
thaw_add_oracle(resnet_float fast 600 --sums float resnet18_frozen_bn_train resnet18_head_then_all
    resnet50_first_step)
thaw_add_oracle(vit fast 300 vit_llrd)
thaw_add_oracle(vit_float fast 300 --sums float vit_llrd)
thaw_add_oracle(vit_f64 fast 300 --executor ref --f64 vit_llrd)
thaw_add_oracle(resnet18_f64 slow 900 --executor ref --f64 resnet18_full_sgd)
thaw_add_oracle(resnet50_f64 slow 900 --executor ref --f64 resnet50_first_step)

# Examples see what a user sees; those of the control plane are built as C++, too. cli/examples runs
# them.
foreach(source ${THAW_EXAMPLES})
    cmake_path(GET source STEM name)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE thaw-static)
endforeach()
foreach(source ${THAW_CORE_EXAMPLES})
    cmake_path(GET source STEM name)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE thaw-core-shared)
    configure_file(${source} ${PROJECT_BINARY_DIR}/${name}.cpp COPYONLY)
    add_executable(${name}-cxx ${PROJECT_BINARY_DIR}/${name}.cpp)
    target_link_libraries(${name}-cxx PRIVATE thaw-core-static)
endforeach()

add_custom_target(fuzzers)
# Fuzz targets: with libFuzzer where THAW_FUZZ is on; always as a replay of their corpus.
foreach(source ${THAW_FUZZERS})
    cmake_path(GET source STEM name)
    string(REPLACE "fuzz_" "" corpus ${name})
    if(THAW_FUZZ)
        add_executable(${name} ${source})
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(${name} ${source} tests/fuzz/replay.c)
    endif()
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
    target_link_libraries(${name} PRIVATE thaw-internal)
    add_dependencies(fuzzers ${name})
    thaw_add_test(fuzz/${name} ${PROJECT_BINARY_DIR}/tests/${name}
        ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
endforeach()

if(THAW_FUZZ)
    # Its own matchers are no subject of the search; traced and sanitized they took most of the time.
    target_compile_options(fuzz_pattern PRIVATE -O2 -fno-sanitize=all)
endif()

# Tests that are scripts get the source folder, the build folder and the compilers.
foreach(script ${THAW_SCRIPT_TESTS})
    thaw_add_test(${script} sh ${PROJECT_SOURCE_DIR}/tests/${script}.sh
        ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
    set_property(TEST ${script} APPEND PROPERTY ENVIRONMENT
        "CC=${CMAKE_C_COMPILER}" "CXX=${CMAKE_CXX_COMPILER}"
        "SANITIZE=$<$<CONFIG:Asan>:-fsanitize=address,undefined>")
endforeach()

# Where PyTorch is, its files as it writes them now are read, too.
find_program(THAW_TORCH_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
if(THAW_TORCH_PYTHON)
    execute_process(COMMAND ${THAW_TORCH_PYTHON} -c "import torch"
        RESULT_VARIABLE no_torch OUTPUT_QUIET ERROR_QUIET)
    if(no_torch EQUAL 0)
        thaw_add_test(peer/write_pth ${THAW_TORCH_PYTHON}
            ${PROJECT_SOURCE_DIR}/tests/ckpt/record_torch.py ${PROJECT_BINARY_DIR}/torch-files)
        thaw_add_test(peer/read_pth ${PROJECT_BINARY_DIR}/tests/test_pth)
        set_tests_properties(peer/write_pth PROPERTIES FIXTURES_SETUP torch_files)
        set_tests_properties(peer/read_pth PROPERTIES FIXTURES_REQUIRED torch_files)
        set_property(TEST peer/read_pth APPEND PROPERTY ENVIRONMENT
            "THAW_TORCH_FILES=${PROJECT_BINARY_DIR}/torch-files")
    endif()
    execute_process(COMMAND ${THAW_TORCH_PYTHON} -c "import torchvision"
        RESULT_VARIABLE no_torchvision OUTPUT_QUIET ERROR_QUIET)
    if(no_torchvision EQUAL 0)
        thaw_add_test(peer/torchvision ${THAW_TORCH_PYTHON}
            ${PROJECT_SOURCE_DIR}/tests/peer/torchvision_networks.py
            ${PROJECT_BINARY_DIR}/network_forward)
    endif()
endif()
