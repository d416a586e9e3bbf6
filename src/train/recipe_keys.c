/*
 * recipe_keys.c - the table of every key a recipe may have, one row each: type, default, range,
 * where it goes, and what it means.
 *
 * Reading, --set, the resolved recipe, help and the manual all walk this table; a key is added here
 * and nowhere else. The setters above the table are for values that are no plain field.
 */
#include "train/recipe_reader.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------
 * choices */

#define CHOICES(function, ...)                                                                     \
    static const char *function(size_t i)                                                          \
    {                                                                                              \
        static const char *const name[] = {__VA_ARGS__};                                           \
                                                                                                   \
        return i < THAW_COUNT(name) ? name[i] : NULL;                                              \
    }

/* Where a choice is stored as its number, the order is that of the enum or bool it is stored in. */
CHOICES(stems, "standard", "small")
CHOICES(inits, "random", "by-name")
CHOICES(formats, "idx", "callback", "folder", "csv")
CHOICES(targets, "class", "number")
CHOICES(filters, "bilinear", "bicubic")
CHOICES(crops, "none", "center")
CHOICES(broken_files, "refuse", "skip")
CHOICES(units, "step", "epoch")
CHOICES(losses, "cross_entropy", "mse")
CHOICES(caches, "auto", "off")
CHOICES(tunes, "table", "measure", "library")
CHOICES(precisions, "auto", "f32", "bf16", "f64")
CHOICES(recomputes, "auto", "never", "always")
CHOICES(frozen_norms, "train", "eval")
CHOICES(optimizer_modes, "rebuild", "keep", "hold")
CHOICES(on_freezes, "keep", "reset", "park")
CHOICES(metrics, "valid.accuracy", "valid.loss", "valid.rmse")

static const char *archs(size_t i)
{
    size_t n;
    const char *const *const name = model_archs(&n);

    return i < n ? name[i] : NULL;
}

static const char *optimizers(size_t i)
{
    size_t n;
    const optim_rule *const rule = optim_rules(&n);

    return i < n ? rule[i].name : NULL;
}

static const char *curves(size_t i)
{
    size_t n;
    const curve_rule *const rule = curve_rules(&n);

    return i < n ? rule[i].name : NULL;
}

static const char *executors(size_t i)
{
    size_t n;
    const char *const *const name = exec_names(&n);

    if (i == 0)
        return "auto";
    return i <= n ? name[i - 1] : NULL;
}

static const char *sums(size_t i)
{
    static const char *const name[] = {"float", "double"};

    return i < THAW_COUNT(name) ? name[i] : NULL;
}

/* ----------------------------------------------------------------------------------------------
 * defaults that depend on other keys */

static void derive_seed(text *out, const recipe_reader *rd, const toml_value *section,
                        const char *name)
{
    (void)section;
    (void)name;
    text_addf(out, "%lld", (long long)rd->recipe->seed);
}

static void derive_unit(text *out, const recipe_reader *rd, const toml_value *section,
                        const char *name)
{
    const toml_value *const curve = toml_get(section, "name");

    (void)rd;
    (void)name;
    if (curve && curve->type == TOML_STRING)
        text_add(out, strcmp(curve->string, "step") == 0 ? "'epoch'" : "'step'");
}

/* "train_labels" from "train": the file beside it that the data set's authors named alike. */
static void derive_labels(text *out, const recipe_reader *rd, const toml_value *section,
                          const char *name)
{
    static const char images[] = "images-idx3", labels[] = "labels-idx1";
    char split[8] = {0};
    const toml_value *v;
    const char *found = NULL;
    text path = TEXT_INIT;

    (void)rd;
    memcpy(split, name, THAW_MIN(strcspn(name, "_"), sizeof split - 1));
    v = toml_get(section, split);
    if (!v || v->type != TOML_STRING)
        return;
    for (const char *p = v->string; (p = strstr(p, images)) != NULL; p++)
        found = p;
    if (!found)
        return;
    text_add_n(&path, v->string, (size_t)(found - v->string));
    text_add(&path, labels);
    text_add(&path, found + strlen(images));
    if (path.failed)
        out->failed = true;
    else
        toml_add_string(out, path.data, path.length);
    text_done(&path);
}

/* ----------------------------------------------------------------------------------------------
 * setters: the value's type, range and choice were checked */

static void set_arch(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    if (v->length < sizeof r->config.arch)
        memcpy(r->config.arch, v->string, v->length + 1);
}

static void set_widths(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    for (const toml_value *item = v->first; item; item = item->next)
        r->config.widths[r->config.n_widths++] = item->integer;
}

static void set_blocks(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    for (const toml_value *item = v->first; item; item = item->next)
        r->config.blocks[r->config.n_blocks++] = item->integer;
}

static void set_image_size(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    r->config.height = v->type == TOML_ARRAY ? v->first->integer : v->integer;
    r->config.width = v->type == TOML_ARRAY ? v->last->integer : v->integer;
}

static void set_classes(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;
    int64_t *const classes = recipe_alloc(rd, v->n, sizeof *classes);
    recipe_split *const split[] = {&r->train, &r->valid, &r->test};
    int n = 0;

    if (!classes)
        return;
    for (const toml_value *item = v->first; item; item = item->next)
        classes[n++] = item->integer;
    for (size_t i = 0; i < THAW_COUNT(split); i++) {
        split[i]->subset.classes = classes;
        split[i]->subset.n_classes = n;
    }
}

static void set_subset_seed(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    r->train.subset.seed = r->valid.subset.seed = r->test.subset.seed = (uint64_t)v->integer;
}

/* Numbers for each channel; one holds for all. Lengths are compared when all keys are there. */
static void set_per_channel(double out[4], const toml_value *v)
{
    size_t n;
    const toml_value *item = recipe_items(&n, v);

    for (size_t i = 0; i < 4; i++) {
        out[i] = item->type == TOML_INTEGER ? (double)item->integer : item->real;
        if (i + 1 < n)
            item = item->next;
    }
}

static void set_mean(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    set_per_channel(r->loader.mean, v);
    r->loader.n_mean = v->type == TOML_ARRAY ? (int)v->n : 1;
}

static void set_std(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    set_per_channel(r->loader.std, v);
    if (v->type == TOML_ARRAY)
        r->loader.n_mean = THAW_MAX(r->loader.n_mean, (int)v->n);
}

static void set_rule(recipe_reader *rd, void *target, const toml_value *v)
{
    (void)rd;
    ((thaw_recipe *)target)->rule = optim_rule_find(v->string);
}

static void put_betas(optim_hyper *hyper, const toml_value *v)
{
    double beta[4];

    set_per_channel(beta, v);
    hyper->beta1 = beta[0];
    hyper->beta2 = beta[1];
}

static void set_betas(recipe_reader *rd, void *target, const toml_value *v)
{
    (void)rd;
    put_betas(&((thaw_recipe *)target)->hyper, v);
}

static void set_phase_betas(recipe_reader *rd, void *target, const toml_value *v)
{
    (void)rd;
    put_betas(&((recipe_phase *)target)->hyper, v);
}

static void set_curve(recipe_reader *rd, void *target, const toml_value *v)
{
    (void)rd;
    ((recipe_curve *)target)->rule = curve_find(v->string);
}

static void set_loss(recipe_reader *rd, void *target, const toml_value *v)
{
    (void)rd;
    ((thaw_recipe *)target)->loss = strcmp(v->string, "mse") == 0 ? OP_MSE : OP_CROSS_ENTROPY;
}

static void set_precision(recipe_reader *rd, void *target, const toml_value *v)
{
    static const struct {
        const char *name;
        recipe_precision precision;
    } table[] = {{"auto", PRECISION_AUTO},
                 {"f32", PRECISION_F32},
                 {"bf16", PRECISION_BF16},
                 {"f64", PRECISION_F64}};
    thaw_recipe *const r = target;

    (void)rd;
    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (strcmp(table[i].name, v->string) == 0)
            r->precision = table[i].precision;
    r->real = r->loader.real = r->precision == PRECISION_F64 ? DTYPE_F64 : DTYPE_F32;
}

/* "auto": the fast one, where it can. Stands behind the precision in the table. */
static void set_executor(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    (void)rd;
    if (strcmp(v->string, "auto") != 0)
        r->executor = exec_find(v->string);
    else if (r->real == DTYPE_F32 && exec_find("dnn"))
        r->executor = exec_find("dnn");
    else
        r->executor = exec_find("ref");
}

static void set_length(recipe_reader *rd, void *target, const toml_value *v)
{
    static const struct {
        const char *name;
        thaw_unit unit;
    } table[] = {{"steps", THAW_STEPS},
                 {"epochs", THAW_EPOCHS},
                 {"samples", THAW_SAMPLES},
                 {"tokens", THAW_TOKENS}};
    recipe_phase *const phase = target;

    (void)rd;
    phase->options.length = v->integer;
    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (strcmp(v->key, table[i].name) == 0)
            phase->options.unit = table[i].unit;
}

/* "10min", "500 steps", 500, "off". */
static void set_interval(recipe_reader *rd, void *target, const toml_value *v)
{
    static const struct {
        const char *name;
        double seconds; /* 0: not a time */
        bool epochs;
    } unit[] = {{"s", 1, false},    {"sec", 1, false},   {"min", 60, false}, {"h", 3600, false},
                {"step", 0, false}, {"steps", 0, false}, {"epoch", 0, true}, {"epochs", 0, true}};
    thaw_recipe *const r = target;
    char digits[16] = {0};
    int64_t count = v->integer;
    size_t n;

    if (v->type == TOML_INTEGER) {
        r->save_steps = count;
        return;
    }
    if (strcmp(v->string, "off") == 0)
        return;
    n = strspn(v->string, "0123456789");
    if (n < sizeof digits)
        memcpy(digits, v->string, n);
    for (size_t i = 0; i < THAW_COUNT(unit); i++) {
        if (strcmp(v->string + n + strspn(v->string + n, " "), unit[i].name) != 0 ||
            !parse_int64(&count, digits) || count < 1)
            continue;
        if (unit[i].seconds > 0)
            r->save_seconds = (double)count * unit[i].seconds;
        else if (unit[i].epochs)
            r->save_epochs = count;
        else
            r->save_steps = count;
        return;
    }
    recipe_bad_value(rd, v,
                     "'checkpoint.every' must be like '10min', '500 steps', '2 epochs' or 'off'");
}

static void set_memory_limit(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    if (v->type == TOML_INTEGER)
        r->memory_limit = (uint64_t)v->integer;
    else if (!parse_bytes(&r->memory_limit, v->string) || r->memory_limit == 0)
        recipe_bad_value(rd, v, "'train.memory_limit' must be like '2GiB', '512MiB' or 1000000");
}

static void set_cache_memory(recipe_reader *rd, void *target, const toml_value *v)
{
    thaw_recipe *const r = target;

    if (strcmp(v->string, "auto") == 0)
        r->cache_memory = UINT64_MAX;
    else if (!parse_bytes(&r->cache_memory, v->string))
        recipe_bad_value(rd, v, "'cache.memory' must be like '512MiB', '4GiB', '0' or 'auto'");
}

static void set_cache_disk(recipe_reader *rd, void *target, const toml_value *v)
{
    if (!parse_bytes(&((thaw_recipe *)target)->cache_disk, v->string))
        recipe_bad_value(rd, v, "'cache.disk' must be like '4GiB', '512MiB' or '0'");
}

/* ----------------------------------------------------------------------------------------------
 * the table */

#define IN(type, member)  .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define RECIPE(member)    IN(struct thaw_recipe, member)
#define CURVE(member)     IN(recipe_curve, member)
#define SPEC(member)      IN(thaw_freeze_spec, member)
#define PHASE(member)     IN(recipe_phase, member)
#define FROM(low)         .least = (low), .most = 9.3e18
#define RANGE(low, high)  .least = (low), .most = (high)
#define LIST(low, high)   .least_n = (low), .most_n = (high)
#define LISTED(low, high) LIST(low, high), .list_only = true
#define MOST_INT          2147483647.0

static const recipe_key table[] = {
    {"", "name", KEY_STRING, RECIPE(title), .help = "what to call this recipe in reports"},
    {"", "seed", KEY_INTEGER, .standard = "0", FROM(0), RECIPE(seed),
     .help = "of everything random: start values, order, augmentation, dropout"},

    {"model", "path", KEY_PATH, RECIPE(model_path),
     .help = "weights to start from: a folder with config.json and model.safetensors, or a "
             ".safetensors, .pth or .bin file"},
    {"model", "arch", KEY_CHOICE, .choice = archs, .set = set_arch,
     .help = "network to build; not needed with `path`"},
    {"model", "num_classes", KEY_INTEGER, RANGE(1, 1e6), RECIPE(config.n_classes),
     .help = "outputs of the head; a head of another size is replaced; default: from the data"},
    {"model", "widths", KEY_INTEGER, LISTED(1, MODEL_MAX_STAGES), RANGE(1, 1e6), .set = set_widths,
     .help = "mlp: sizes of input, hidden layers and output; resnet: channels of the stages"},
    {"model", "blocks", KEY_INTEGER, LISTED(1, MODEL_MAX_STAGES), RANGE(1, 1000), .set = set_blocks,
     .help = "resnet: blocks of each stage; default: the arch's own"},
    {"model", "stem", KEY_CHOICE, .choice = stems, .standard = "'standard'",
     RECIPE(config.small_stem),
     .help = "resnet: first layers; 'small' is a 3x3 convolution without pooling"},
    {"model", "patch_size", KEY_INTEGER, RANGE(1, 1024), RECIPE(config.vit.patch),
     .help = "vit: side of the square of pixels that becomes a token; default: the arch's own"},
    {"model", "hidden_size", KEY_INTEGER, RANGE(1, 65536), RECIPE(config.vit.hidden),
     .help = "vit: features of a token"},
    {"model", "intermediate_size", KEY_INTEGER, RANGE(1, 1e6), RECIPE(config.vit.inner),
     .help = "vit: features between the two linear layers of a block; default: 4 * hidden_size"},
    {"model", "num_hidden_layers", KEY_INTEGER, RANGE(1, 1000), RECIPE(config.vit.layers),
     .help = "vit: blocks"},
    {"model", "num_attention_heads", KEY_INTEGER, RANGE(1, 65536), RECIPE(config.vit.heads),
     .help = "vit: heads of each attention; a divisor of hidden_size"},
    {"model", "layer_norm_eps", KEY_NUMBER, RANGE(0, 1), RECIPE(config.vit.eps),
     .help = "vit: added to variances in layer norms"},
    {"model", "channels", KEY_INTEGER, RANGE(1, 4), RECIPE(config.channels),
     .help = "channels of the input image; default: from the model's folder or the data"},
    {"model", "image_size", KEY_INTEGER, LIST(2, 2), RANGE(1, 65536), .set = set_image_size,
     .help = "side of the input image, or [height, width]; default as for `channels`"},
    {"model", "dropout", KEY_NUMBER, .standard = "0.0", RANGE(0, 1), .below_most = true,
     RECIPE(config.dropout), .help = "probability of dropping each input of the head"},
    {"model", "norm_momentum", KEY_NUMBER, RANGE(0, 1), .above_least = true,
     RECIPE(config.norm_momentum),
     .help = "share of each batch in the running statistics of batch norms; default: the arch's "
             "own, 0.1"},
    {"model", "new_head", KEY_BOOLEAN, .standard = "false", RECIPE(new_head),
     .help = "start the head anew although the file's would fit: for other classes"},
    {"model", "init", KEY_CHOICE, .choice = inits, .standard = "'random'", RECIPE(init_by_name),
     .help = "start values where no file gives them; 'by-name' is for reference runs"},

    {"data", "format", KEY_CHOICE, .choice = formats, .standard = "'idx'", RECIPE(format),
     .help = "idx: files of the MNIST family; folder: JPEG and PNG pictures in a folder for each "
             "class; csv: lists of pictures; callback: a C program brings its own samples"},
    {"data", "train", KEY_PATH, .when = "format=idx|folder|csv", .required = true,
     RECIPE(train.images),
     .help = "images to train on: an IDX file, plain or gzip; a folder; or a list, of a file and "
             "its label on each line, or with a first line that names these columns"},
    {"data", "train_labels", KEY_PATH, .when = "train", .also = "format=idx", .required = true,
     .derive = derive_labels, .standard = "beside `train`, labels-idx1 for images-idx3",
     RECIPE(train.labels), .help = "their labels"},
    {"data", "valid", KEY_PATH, .when = "format=idx|folder|csv", RECIPE(valid.images),
     .help = "images to evaluate on while training"},
    {"data", "valid_labels", KEY_PATH, .when = "valid", .also = "format=idx", .required = true,
     .derive = derive_labels, .standard = "beside `valid`", RECIPE(valid.labels),
     .help = "their labels"},
    {"data", "test", KEY_PATH, .when = "format=idx|folder|csv", RECIPE(test.images),
     .help = "images to evaluate on at the very end"},
    {"data", "test_labels", KEY_PATH, .when = "test", .also = "format=idx", .required = true,
     .derive = derive_labels, .standard = "beside `test`", RECIPE(test.labels),
     .help = "their labels"},
    {"data", "num_classes", KEY_INTEGER, .when = "format=idx|callback", RANGE(1, 256),
     RECIPE(n_classes), .help = "classes of the labels; default: the largest label + 1"},
    {"data", "classes", KEY_INTEGER, .when = "format=idx", LISTED(1, 256), RANGE(0, 255),
     .set = set_classes, .help = "labels to keep, renumbered from 0 in this order; default: all"},
    {"data", "skip", KEY_INTEGER, .when = "train", .also = "format=idx", .standard = "0", FROM(0),
     RECIPE(train.subset.skip), .help = "samples of `train` to leave out at the beginning"},
    {"data", "first", KEY_INTEGER, .when = "train", .also = "format=idx", .standard = "0", FROM(0),
     RECIPE(train.subset.first), .help = "then keep this many; 0: all"},
    {"data", "per_class", KEY_INTEGER, .when = "train", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(train.subset.per_class),
     .help = "then keep this many of each class, drawn; 0: all"},
    {"data", "valid_skip", KEY_INTEGER, .when = "valid", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(valid.subset.skip), .help = "as `skip`, of `valid`"},
    {"data", "valid_first", KEY_INTEGER, .when = "valid", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(valid.subset.first), .help = "as `first`, of `valid`"},
    {"data", "valid_per_class", KEY_INTEGER, .when = "valid", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(valid.subset.per_class), .help = "as `per_class`, of `valid`"},
    {"data", "test_skip", KEY_INTEGER, .when = "test", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(test.subset.skip), .help = "as `skip`, of `test`"},
    {"data", "test_first", KEY_INTEGER, .when = "test", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(test.subset.first), .help = "as `first`, of `test`"},
    {"data", "test_per_class", KEY_INTEGER, .when = "test", .also = "format=idx", .standard = "0",
     FROM(0), RECIPE(test.subset.per_class), .help = "as `per_class`, of `test`"},
    {"data", "subset_seed", KEY_INTEGER, .when = "format=idx", .derive = derive_seed,
     .standard = "the recipe's seed", FROM(0), .set = set_subset_seed,
     .help = "of the draw that `per_class` makes"},
    {"data", "batch", KEY_INTEGER, .standard = "32", RANGE(1, 1 << 20), RECIPE(loader.batch),
     .help = "samples of one micro-batch"},
    {"data", "shuffle", KEY_BOOLEAN, .standard = "true", RECIPE(loader.shuffle),
     .help = "another order in each epoch"},
    {"data", "seed", KEY_INTEGER, .derive = derive_seed, .standard = "the recipe's seed", FROM(0),
     RECIPE(loader.seed), .help = "of order and augmentation"},
    {"data", "wrap", KEY_BOOLEAN, .standard = "false", RECIPE(loader.wrap),
     .help = "one endless stream: every batch is full, epochs may end inside one"},
    {"data", "mean", KEY_NUMBER, .when = "format=idx|folder|csv", LIST(1, 4),
     .derive = recipe_derive_normal,
     .standard = "0.0; of pictures the model folder's, else ImageNet's", RANGE(-1e6, 1e6),
     .set = set_mean,
     .help = "of the pixels in [0, 1], for all channels or each: x = (pixel - mean) / std"},
    {"data", "std", KEY_NUMBER, .when = "format=idx|folder|csv", LIST(1, 4),
     .derive = recipe_derive_normal, .standard = "1.0; of pictures likewise", RANGE(0, 1e6),
     .above_least = true, .set = set_std, .help = "standard deviation, likewise"},
    {"data", "channels", KEY_INTEGER, .when = "format=idx|folder|csv",
     .derive = recipe_derive_channels, .standard = "0; of pictures 3, or 1 for a grey network",
     RANGE(0, 4), RECIPE(loader.channels),
     .help = "channels given to the network, one is repeated; 0: as stored"},
    {"data", "scale", KEY_INTEGER, .when = "format=idx", .standard = "1", RANGE(1, 64),
     RECIPE(loader.scale), .help = "repeat each pixel scale x scale times"},
    {"data", "shift", KEY_INTEGER, .when = "format=idx|folder|csv", .standard = "0", RANGE(0, 1024),
     RECIPE(loader.shift), .help = "augmentation: move by up to this many pixels, at random"},
    {"data", "flip", KEY_BOOLEAN, .when = "format=idx|folder|csv", .standard = "false",
     RECIPE(loader.flip), .help = "augmentation: mirror left and right with probability 1/2"},
    {"data", "valid_fraction", KEY_NUMBER, .when = "format=folder|csv", .standard = "0.0",
     RANGE(0, 1), .below_most = true, RECIPE(pictures.valid_fraction),
     .help =
         "without `valid`: share of each class of `train` that is drawn for it; of two pictures "
         "or more at least one goes and one stays"},
    {"data", "split_seed", KEY_INTEGER, .when = "format=folder|csv", .derive = derive_seed,
     .standard = "the recipe's seed", FROM(0), RECIPE(pictures.seed), .help = "of that draw"},
    {"data", "target", KEY_CHOICE, .when = "format=csv", .choice = targets, .standard = "'class'",
     RECIPE(pictures.numbers),
     .help = "what the list's second column is: a class, or a number to predict (regression)"},
    {"data", "image_size", KEY_INTEGER, .when = "format=folder|csv", LIST(2, 2), RANGE(1, 65536),
     .derive = recipe_derive_side, .standard = "the network's, else 224", .set = recipe_set_side,
     .help = "side of the images that are made of pictures, or [height, width]"},
    {"data", "resize", KEY_CHOICE, .when = "format=folder|csv", .choice = filters,
     .derive = recipe_derive_resize, .standard = "the model folder's, else 'bilinear'",
     RECIPE(pictures.recipe.filter), .help = "how; always with antialiasing, as Pillow does"},
    {"data", "crop", KEY_CHOICE, .when = "format=folder|csv", .choice = crops,
     .derive = recipe_derive_crop, .standard = "the model folder's, else 'center'",
     .help = "center: the shorter side becomes `resize_to`, and the middle is cut out; none: "
             "pictures are stretched to the image's size"},
    {"data", "resize_to", KEY_INTEGER, .when = "crop=center", .also = "format=folder|csv",
     RANGE(1, 65536), .derive = recipe_derive_resize_to,
     .standard = "the model folder's, else image_size / 0.875",
     RECIPE(pictures.recipe.shorter_side), .help = "the shorter side before the middle is cut out"},
    {"data", "random_resized_crop", KEY_NUMBER, .when = "format=folder|csv", LISTED(2, 2),
     RANGE(0, 1), .set = recipe_set_crop_scale,
     .help = "augmentation: a part of each picture with a share of its area between these, drawn, "
             "and sides as 3:4 to 4:3; [0.08, 1.0] is usual from scratch, [0.35, 1.0] for tuning"},
    {"data", "colour_jitter", KEY_NUMBER, .when = "format=folder|csv", LISTED(3, 3), RANGE(0, 10),
     .set = recipe_set_jitter,
     .help = "augmentation: brightness, contrast and saturation times 1 +- up to this, in random "
             "order"},
    {"data", "broken", KEY_CHOICE, .when = "format=folder|csv", .choice = broken_files,
     .standard = "'refuse'", RECIPE(pictures.skip_broken),
     .help = "pictures that cannot be read: refuse ends the run and names them; skip leaves them "
             "out, and puts another of its class in the place of one whose damage shows only while "
             "training"},
    {"data", "max_pixels", KEY_INTEGER, .when = "format=folder|csv", .standard = "67108864",
     RANGE(1, 268435456), RECIPE(pictures.recipe.most_pixels),
     .help = "of a picture; larger ones count as broken"},
    {"data", "workers", KEY_INTEGER, .when = "format=folder|csv", .standard = "0", RANGE(0, 256),
     RECIPE(loader.workers), .help = "threads that read pictures; 0: as many as processors"},
    {"data", "prefetch", KEY_BOOLEAN, .standard = "true", RECIPE(loader.prefetch),
     .help = "prepare the next batch on a thread"},

    {"optimizer", "name", KEY_CHOICE, .choice = optimizers, .standard = "'adamw'", .set = set_rule,
     .help = "update rule"},
    {"optimizer", "lr", KEY_NUMBER, .standard = "0.001", RANGE(0, 1e6), RECIPE(lr),
     .help = "base learning rate; a layer's own is lr x curve x coefficient"},
    {"optimizer", "momentum", KEY_NUMBER, .when = "name=sgd", .standard = "0.0", RANGE(0, 1),
     .below_most = true, RECIPE(hyper.momentum), .help = "share of the last step kept"},
    {"optimizer", "nesterov", KEY_BOOLEAN, .when = "name=sgd", .standard = "false",
     RECIPE(hyper.nesterov), .help = "Nesterov's form of momentum"},
    {"optimizer", "betas", KEY_NUMBER, .when = "name=adam|adamw", LISTED(2, 2),
     .standard = "[0.9, 0.999]", RANGE(0, 1), .below_most = true, .set = set_betas,
     .help = "decay of the first and second moments"},
    {"optimizer", "eps", KEY_NUMBER, .when = "name=adam|adamw", .standard = "1e-8", RANGE(0, 1),
     .above_least = true, RECIPE(hyper.eps), .help = "added to the second moment's root"},
    {"optimizer", "weight_decay", KEY_NUMBER, .standard = "0.0", RANGE(0, 1e3),
     RECIPE(hyper.weight_decay), .help = "pull of the weights towards 0"},
    {"optimizer", "decay_norms_and_biases", KEY_BOOLEAN, .standard = "true",
     RECIPE(hyper.decay_norms_and_biases),
     .help = "false: parameters with fewer than two axes take no weight decay"},
    {"optimizer", "clip_norm", KEY_NUMBER, .standard = "inf", RANGE(0, INFINITY),
     .above_least = true, RECIPE(clip_norm), .help = "limit of the gradients' L2 norm; inf: off"},
    {"optimizer", "accumulate", KEY_INTEGER, .standard = "1", RANGE(1, 1e6), RECIPE(accumulate),
     .help = "micro-batches of one update"},

    {"schedule", "name", KEY_CHOICE, .choice = curves, .standard = "'constant'", .set = set_curve,
     .help = "curve of the learning rate, from each rebuild of the optimizer on"},
    {"schedule", "unit", KEY_CHOICE, .choice = units, .derive = derive_unit,
     .standard = "'epoch' for the step curve, else 'step'", CURVE(per_epoch),
     .help = "what the curve counts, and the unit of `step_size` and `warmup`"},
    {"schedule", "step_size", KEY_NUMBER, .when = "name=step", .required = true, RANGE(0, 1e12),
     .above_least = true, CURVE(step_size), .help = "the rate falls once in so many units"},
    {"schedule", "gamma", KEY_NUMBER, .when = "name=step", .standard = "0.1", RANGE(0, 10),
     .above_least = true, CURVE(gamma), .help = "factor of each fall"},
    {"schedule", "least", KEY_NUMBER, .when = "name=cosine|linear", .standard = "0.0", RANGE(0, 1),
     CURVE(least), .help = "factor at the end of the curve"},
    {"schedule", "warmup", KEY_NUMBER, .standard = "0.0", RANGE(0, 1e12), CURVE(warmup),
     .help = "units over which the rate rises from 0"},

    {"loss", "name", KEY_CHOICE, .choice = losses, .derive = recipe_derive_loss,
     .standard = "'cross_entropy'; 'mse' for numbers", .set = set_loss,
     .help = "what training makes small"},
    {"loss", "label_smoothing", KEY_NUMBER, .when = "name=cross_entropy", .standard = "0.0",
     RANGE(0, 1), .below_most = true, RECIPE(loss_attrs.loss.smoothing),
     .help = "share of each target spread over all classes"},
    {"loss", "ignore_index", KEY_INTEGER, .when = "name=cross_entropy", .standard = "-100",
     RANGE(-MOST_INT, MOST_INT), RECIPE(loss_attrs.loss.ignore),
     .help = "label of samples that do not count"},

    {"train", "precision", KEY_CHOICE, .choice = precisions, .standard = "'f32'",
     .set = set_precision,
     .help = "number type of what is computed; bf16: of activations and copies of weights, where "
             "layers gain from it, all that is kept stays f32; auto: bf16 where the processor "
             "multiplies it faster, else f32"},
    {"train", "executor", KEY_CHOICE, .choice = executors, .standard = "'auto'",
     .set = set_executor, .help = "what computes; dnn is fast, ref is the plain reference"},
    {"train", "sums", KEY_CHOICE, .choice = sums, .standard = "'float'", RECIPE(double_sums),
     .help = "how products are added up; double: rounded once, as on ref, several times slower"},
    {"train", "memory_limit", KEY_SIZE, RANGE(1, 9e18), .set = set_memory_limit,
     .help = "what the whole process may take, as '2GiB' or in bytes; a larger batch runs in "
             "pieces, unless batch norms that train would see it; default: what the machine has"},
    {"train", "frozen_norm", KEY_CHOICE, .choice = frozen_norms, .standard = "'eval'",
     RECIPE(frozen_norm_eval),
     .help = "norms whose parameters are all frozen; train: their statistics go on moving"},
    {"train", "eval_every", KEY_INTEGER, .standard = "1", RANGE(0, 1e9), RECIPE(eval_every),
     .help = "epochs between evaluations; 0: only at the ends of phases"},
    {"train", "eval_at_start", KEY_BOOLEAN, .standard = "true", RECIPE(eval_at_start),
     .help = "evaluate before the first step"},

    {"plan", "fold", KEY_BOOLEAN, .standard = "true", RECIPE(fold),
     .help = "frozen norms become part of the weights of the convolution before them"},
    {"plan", "fuse", KEY_BOOLEAN, .standard = "true", RECIPE(fuse),
     .help = "sums and activations are done in the step before them"},
    {"plan", "inplace", KEY_BOOLEAN, .standard = "true", RECIPE(inplace),
     .help = "results are written over what nobody reads any more; results are the same to the "
             "bit"},
    {"plan", "winograd", KEY_BOOLEAN, .standard = "true", RECIPE(winograd),
     .help =
         "windows of 3 x 3 pixels are computed with a quarter of the multiplications where that "
         "is faster"},
    {"plan", "tune", KEY_CHOICE, .choice = tunes, .standard = "'table'", RECIPE(tune),
     .help = "which kernels dense layers get where several do: those of a table of shapes, or the "
             "fastest as measured before the first step; then the run and its checkpoints keep the "
             "choices in tune.json, and one beside a recipe is used instead of measuring; library: "
             "none of our own where the kernel library has one"},
    {"plan", "recompute", KEY_CHOICE, .choice = recomputes, .standard = "'auto'", RECIPE(recompute),
     .help = "norms, activations and sums are made again backward instead of being kept; results "
             "are the same to the bit. auto: where it saves 5% of the memory for 5% of the work or "
             "less, or where 'train.memory_limit' asks for it"},
    {"cache", "features", KEY_CHOICE, .choice = caches, .standard = "'auto'", RECIPE(cache_off),
     .help = "keep what the frozen beginning of the network makes of each sample, for later epochs "
             "and phases; results are the same without"},
    {"cache", "memory", KEY_STRING, .standard = "'auto'", .set = set_cache_memory,
     .help =
         "most memory it takes, such as '512MiB'; auto: a quarter of what is free at the start"},
    {"cache", "disk", KEY_STRING, .standard = "'0'", .set = set_cache_disk,
     .help = "most room of its files, such as '4GiB', for what memory has no room for; 0: none"},
    {"cache", "folder", KEY_PATH, RECIPE(cache_folder),
     .help = "where its files lie, a folder for this run alone; default: `features` in the run's "
             "folder"},
    {"cache", "views", KEY_INTEGER, .standard = "0", RANGE(0, 1 << 20), RECIPE(loader.views),
     .help = "with augmentation: draw so many views of each sample, one an epoch in turn, so that "
             "they can be kept; 0: a new one in each epoch, and nothing is kept of training"},

    {"checkpoint", "every", KEY_INTERVAL, .standard = "'10min'", RANGE(1, 1e15),
     .set = set_interval, .help = "how often to save: '10min', '500 steps', '2 epochs' or 'off'"},
    {"checkpoint", "keep", KEY_INTEGER, .standard = "3", RANGE(1, 1e6), RECIPE(keep),
     .help = "newest checkpoints that are kept, beside those at the ends of phases (on_phase) and "
             "the one of the best weights"},
    {"checkpoint", "on_phase", KEY_BOOLEAN, .standard = "true", RECIPE(save_on_phase),
     .help = "save at the end of each phase too"},

    {"checkpoint", "parked", KEY_BOOLEAN, .standard = "true", RECIPE(save_parked),
     .help = "with on_freeze = 'park': checkpoints hold the parked state; false: smaller ones, and "
             "layers that thaw after a resume start with new state"},

    {"phase", "name", KEY_STRING, PHASE(options.name),
     .help = "what to call it; default: its number"},
    {"phase", "epochs", KEY_INTEGER, FROM(0), .set = set_length,
     .help = "length of the phase; give one of epochs, steps, samples, tokens"},
    {"phase", "steps", KEY_INTEGER, FROM(0), .set = set_length, .help = "length in updates"},
    {"phase", "samples", KEY_INTEGER, FROM(0), .set = set_length, .help = "length in samples"},
    {"phase", "tokens", KEY_INTEGER, FROM(0), .set = set_length, .help = "length in tokens"},
    {"phase", "freeze", KEY_STRING, LIST(0, 4096),
     .help = "layers to freeze: aliases, or regular expressions that match a whole layer name"},
    {"phase", "unfreeze", KEY_STRING, LIST(0, 4096), .help = "layers to let train again"},
    {"phase", "lr_coefficients", KEY_COEFFICIENTS, RANGE(0, 1e6),
     .help = "factors of the learning rate: { layer4 = 0.1 }; 0 pauses a layer, \"pin\" means 1 "
             "whatever the layer lies in has"},
    {"phase", "lr", KEY_NUMBER, RANGE(0, 1e6), PHASE(lr),
     .help = "base learning rate from here on; default: optimizer.lr"},
    {"phase", "weight_decay", KEY_NUMBER, RANGE(0, 1e3), PHASE(hyper.weight_decay),
     .help = "default: optimizer.weight_decay"},
    {"phase", "momentum", KEY_NUMBER, .when = "optimizer.name=sgd", RANGE(0, 1), .below_most = true,
     PHASE(hyper.momentum),
     .help = "default: optimizer.momentum; between 0 and more only where the optimizer is rebuilt"},
    {"phase", "nesterov", KEY_BOOLEAN, .when = "optimizer.name=sgd", PHASE(hyper.nesterov),
     .help = "default: optimizer.nesterov"},
    {"phase", "betas", KEY_NUMBER, .when = "optimizer.name=adam|adamw", LISTED(2, 2), RANGE(0, 1),
     .below_most = true, .set = set_phase_betas, .help = "default: optimizer.betas"},
    {"phase", "eps", KEY_NUMBER, .when = "optimizer.name=adam|adamw", RANGE(0, 1),
     .above_least = true, PHASE(hyper.eps), .help = "default: optimizer.eps"},
    {"phase", "clip_norm", KEY_NUMBER, RANGE(0, INFINITY), .above_least = true, PHASE(clip_norm),
     .help = "default: optimizer.clip_norm"},
    {"phase", "batch", KEY_INTEGER, RANGE(1, 1 << 20), PHASE(batch),
     .help = "samples of one micro-batch in this phase, which decides the steps of its epochs; "
             "default: data.batch"},
    {"phase", "thaw_warmup", KEY_INTEGER, RANGE(0, 1e12), PHASE(options.thaw_warmup),
     .help = "steps over which the rates of layers that were frozen before this phase rise: "
             "factor (k + 1) / (thaw_warmup + 1) in step k from 0"},
    {"phase", "optimizer", KEY_CHOICE, .choice = optimizer_modes, .standard = "'rebuild'",
     PHASE(options.optimizer),
     .help = "rebuild: new state and curve; keep: state of what stays is kept; hold: groups and "
             "rates stay as they are"},
    {"phase", "on_freeze", KEY_CHOICE, .when = "optimizer=keep", .choice = on_freezes,
     .standard = "'keep'", PHASE(options.on_freeze),
     .help = "what happens to the optimizer state of layers that freeze: it stays in memory, is "
             "dropped, or waits in a file of the run until they thaw"},
    {"phase", "schedule", KEY_TABLE, .set = recipe_set_phase_curve,
     .help = "a curve of its own, with the keys of [schedule]"},
    {"phase", "until", KEY_TABLE, .set = recipe_set_until,
     .help = "end early when a metric stops improving; the length stays the maximum"},

    {"freeze", "module", KEY_STRING, .required = true, SPEC(module),
     .help = "a name of [module_patterns], or a pattern on parameter names: 'adapter.*'"},
    {"freeze", "frozen", KEY_BOOLEAN, .standard = "true", SPEC(frozen),
     .help = "false: let it train again"},
    {"freeze_schedule", "start_step", KEY_INTEGER, .required = true, RANGE(-9.3e18, 9.3e18),
     IN(thaw_freeze_stage, start_step), .help = "updates made before this stage takes effect"},
    {"freeze_schedule", "specs", KEY_TABLE, LISTED(0, 4096), .required = true,
     .help = "what changes then: tables with the keys of `freeze`"},

    {"phase.until", "metric", KEY_CHOICE, .choice = metrics, .derive = recipe_derive_metric,
     .standard = "'valid.accuracy'; 'valid.rmse' for numbers", PHASE(options.until_metric),
     .help = "what is watched"},
    {"phase.until", "patience", KEY_INTEGER, .required = true, RANGE(1, 1e6),
     PHASE(options.until_patience), .help = "evaluations without improvement that end the phase"},
    {"phase.until", "min_change", KEY_NUMBER, .standard = "0.0", RANGE(0, 1e6),
     PHASE(options.until_min_change), .help = "a smaller improvement does not count"},
    {"phase.until", "restore", KEY_BOOLEAN, .standard = "false", PHASE(options.until_restore),
     .help = "take the phase's best weights back at its end"},
};

static const recipe_section sections[] = {
    {"", "At the top of the file."},
    {"model", "The network: a pretrained folder, or an architecture."},
    {"data", "The samples. Paths are relative to the recipe's folder."},
    {"optimizer", "How weights are updated."},
    {"schedule", "How the learning rate changes over time."},
    {"loss", "What is minimised."},
    {"aliases", "Names for layer patterns: backbone = [\"conv1\", \"bn1\", \"layer[1-4]\"]."},
    {"train", "How training runs."},
    {"plan",
     "What the compiler of plans may do. For comparison: results differ in rounding alone."},
    {"cache", "What is kept so that frozen work is done once."},
    {"checkpoint", "What is saved when."},
    {"phase",
     "[[phase]], one table each, in order. Phases are cumulative: what one freezes stays frozen "
     "until another unfreezes it. freeze, unfreeze and lr_coefficients act in the order in which "
     "they stand."},
    {"phase.until", "Inside a phase: until = { patience = 2 }."},
    {"module_patterns",
     "Names for shell-style patterns on parameter names: adapter = [\"adapter\", \"adapter.*\"]."},
    {"freeze",
     "Freezing by parameter patterns from the start: freeze = [{ module = \"adapter\" }], at the "
     "top of the file."},
    {"freeze_schedule",
     "[[freeze_schedule]]: the same at fixed steps, whatever phase they lie in; in rising order."},
};

const recipe_key *recipe_keys(size_t *n)
{
    *n = THAW_COUNT(table);
    return table;
}

const recipe_section *recipe_sections(size_t *n)
{
    *n = THAW_COUNT(sections);
    return sections;
}

const recipe_key *recipe_key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(table); i++)
        if (strcmp(table[i].section, section) == 0 && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}
