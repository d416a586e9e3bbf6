# Every source of the project, by name. A new file is listed here; tests/layers checks that it is.

# libthaw-core: base without JSON, and the control plane. Needs PCRE2 only.
set(THAW_CORE_SOURCES
    src/base/mem.c
    src/base/os.c
    src/base/processors.c
    src/base/rng.c
    src/base/status.c
    src/base/str.c
    src/core/blocks.c
    src/core/charname.c
    src/core/charset.c
    src/core/effect.c
    src/core/glob.c
    src/core/groups.c
    src/core/jsonread.c
    src/core/metadata.c
    src/core/namemap.c
    src/core/notes.c
    src/core/pattern.c
    src/core/phasetext.c
    src/core/policy.c
    src/core/policy_json.c
    src/core/presets.c
    src/core/pytext.c
    src/core/regex.c
    src/core/regex_group.c
    src/core/schedule.c
    src/core/seal.c
    src/core/select.c
    src/core/specs.c
    src/core/state.c
    src/core/tree.c)

# libthaw: all the rest.
set(THAW_REST_SOURCES
    src/tensor/tensor.c
    src/graph/autodiff.c
    src/graph/flops.c
    src/graph/graph.c
    src/graph/infer.c
    src/graph/ops.c
    src/data/augment.c
    src/data/dataset.c
    src/data/gunzip.c
    src/data/idx.c
    src/data/loader.c
    src/data/pixels.c
    src/data/subset.c
    src/params/params.c
    src/ckpt/checkpoint.c
    src/ckpt/lock.c
    src/ckpt/manifest.c
    src/ckpt/mark.c
    src/ckpt/retain.c
    src/ckpt/safetensors.c
    src/ckpt/safetensors_write.c
    src/ckpt/scan.c
    src/ckpt/sha256.c
    src/ckpt/verify.c
    src/plan/compile.c
    src/plan/dump.c
    src/plan/memplan.c
    src/plan/order.c
    src/plan/plan_verify.c
    src/plan/prune.c
    src/plan/rewrite.c
    src/model/config.c
    src/model/layers.c
    src/model/mlp.c
    src/model/model.c
    src/model/resnet.c
    src/optim/curve.c
    src/optim/optim.c
    src/optim/rules.c
    src/exec/dnn.c
    src/exec/dnn_exec.c
    src/exec/exec.c
    src/exec/fast.c
    src/exec/fast_map.c
    src/exec/fast_norm.c
    src/exec/fast_pool.c
    src/exec/ref.c
    src/exec/ref_f32.c
    src/exec/ref_f64.c
    src/train/api.c
    src/train/diffview.c
    src/train/edit.c
    src/train/evaluate.c
    src/train/events.c
    src/train/init.c
    src/train/job.c
    src/train/outlook.c
    src/train/moments.c
    src/train/phase_best.c
    src/train/plans.c
    src/train/planview.c
    src/train/recipe.c
    src/train/recipe_check.c
    src/train/recipe_help.c
    src/train/recipe_keys.c
    src/train/recipe_phase.c
    src/train/recipe_print.c
    src/train/recipe_section.c
    src/train/recipe_set.c
    src/train/recipe_stage.c
    src/train/record.c
    src/train/run_state.c
    src/train/showview.c
    src/train/toml.c
    src/train/toml_utf8.c
    src/train/toml_word.c
    src/train/trainer.c
    src/train/update.c
    src/train/weights.c)

# Compiled for speed (-O3).
set(THAW_KERNEL_SOURCES
    src/exec/fast.c
    src/exec/fast_map.c
    src/exec/fast_norm.c
    src/exec/fast_pool.c
    src/exec/ref_f32.c
    src/exec/ref_f64.c)

# The program.
set(THAW_CLI_SOURCES
    cli/cmd_eval.c
    cli/cmd_help.c
    cli/cmd_look.c
    cli/cmd_train.c
    cli/commands.c
    cli/main.c
    cli/options.c
    cli/phase_table.c
    cli/progress.c
    cli/say.c)

# tests/NAME.c, one program each.
set(THAW_UNIT_TESTS
    base/test_mem
    base/test_os
    base/test_processors
    base/test_rng
    base/test_status
    base/test_str
    core/test_blocks
    core/test_charname
    core/test_charset
    core/test_core_memory
    core/test_effect
    core/test_glob
    core/test_groups
    core/test_jsonread
    core/test_metadata
    core/test_namemap
    core/test_notes
    core/test_pattern
    core/test_phasetext
    core/test_policy
    core/test_policy_json
    core/test_presets
    core/test_pytext
    core/test_regex
    core/test_regex_group
    core/test_schedule
    core/test_seal
    core/test_select
    core/test_specs
    core/test_state
    core/test_tree
    tensor/test_tensor
    graph/test_autodiff
    graph/test_flops
    graph/test_graph
    graph/test_infer
    graph/test_ops
    data/test_augment
    data/test_dataset
    data/test_gunzip
    data/test_idx
    data/test_loader
    data/test_pixels
    data/test_subset
    params/test_params
    ckpt/test_checkpoint
    ckpt/test_lock
    ckpt/test_manifest
    ckpt/test_mark
    ckpt/test_powerloss
    ckpt/test_retain
    ckpt/test_safetensors
    ckpt/test_safetensors_write
    ckpt/test_scan
    ckpt/test_sha256
    ckpt/test_verify
    plan/test_compile
    plan/test_dump
    plan/test_memplan
    plan/test_order
    plan/test_plan_verify
    plan/test_prune
    plan/test_rewrite
    model/test_config
    model/test_layers
    model/test_mlp
    model/test_model
    model/test_resnet
    optim/test_curve
    optim/test_optim
    optim/test_rules
    exec/test_dnn
    exec/test_exec
    exec/test_ref
    train/test_evaluate
    train/test_plans
    train/test_recipe
    train/test_run_state
    train/test_toml
    train/test_trainer
    train/test_update
    train/test_weights)

# tests/NAME.sh.
set(THAW_SCRIPT_TESTS
    layers/headers
    layers/install
    layers/layers
    layers/mutants
    cli/errors
    cli/help
    cli/resume
    cli/train)

# Fuzz targets; the corpus of each is tests/fuzz/corpus/NAME/.
set(THAW_FUZZERS
    tests/fuzz/fuzz_idx.c
    tests/fuzz/fuzz_manifest.c
    tests/fuzz/fuzz_pattern.c
    tests/fuzz/fuzz_policy.c
    tests/fuzz/fuzz_recipe.c
    tests/fuzz/fuzz_safetensors.c
    tests/fuzz/fuzz_toml.c)

# Programs that compare recorded runs and vectors.
set(THAW_RUNNERS
    tests/golden_run.c
    tests/json_check.c
    tests/oracle_run.c)

# Examples of the library; run by the tests.
set(THAW_EXAMPLES
    examples/embed-train.c)

# Examples of the control plane alone; built as C and as C++.
set(THAW_CORE_EXAMPLES
    examples/embed-control.c)

# Benchmarks.
set(THAW_BENCHES
    bench/bench_control.c
    bench/bench_data.c
    bench/bench_resnet.c)

# What the test programs of exec share.
set(THAW_SHARED_TESTS_exec
    tests/exec/op_cases.c)

# What golden_run is made of.
set(THAW_PARTS_golden_run
    tests/golden/family_config.c
    tests/golden/family_layers.c
    tests/golden/family_loop.c
    tests/golden/family_optim.c
    tests/golden/family_patterns.c
    tests/golden/family_specs.c)
