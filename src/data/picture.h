/*
 * picture.h - pictures: the bytes of a file to pixels, and pixels to what a network reads.
 *
 * Sizes, colours and rounding are those of Pillow, the library that pretrained networks saw their
 * pictures through; where we differ, it is said here. Everything is a pure function of the file and
 * of what was drawn, so pictures can be made on any thread, in any order.
 */
#ifndef THAW_DATA_PICTURE_H
#define THAW_DATA_PICTURE_H

#include "data/data.h"

#define DATA_INLINE static inline __attribute__((always_inline))

/* ----------------------------------------------------------------------------------------------
 * files to pixels */

/* Pixels [height, width, channels], 1 channel (grey) or 3 (red, green, blue). Reused: room grows as
 * needed and stays until picture_done. Start from {0}. */
typedef struct picture {
    int64_t width, height;
    int channels;
    uint8_t *pixels;
    size_t room;
} picture;
void picture_done(picture *p);

/* Set the size and have room for it; the pixels are not kept. THAW_E_NOMEM names `name`. */
thaw_status picture_shape(picture *p, int64_t width, int64_t height, int channels,
                          const char *name) THAW_MUST_USE;

/* What a file may cost. More is refused before memory for pixels is asked for; so is a file that is
 * too short for the size it states. */
typedef struct picture_limits {
    int64_t most_pixels;
} picture_limits;
#define PICTURE_MOST_PIXELS (INT64_C(1) << 26)  /* the default: 192 MiB of pixels a worker */
#define PICTURE_MOST_BYTES  ((size_t)256 << 20) /* of a file */

/*
 * A JPEG or PNG, by content. Upright: an EXIF orientation is applied. Grey stays grey; CMYK becomes
 * RGB as in Pillow; palettes are looked up; alpha is dropped, not composited (Pillow's
 * convert("RGB")); of 16 bits the upper 8 are taken. Colour profiles and gamma are ignored.
 *
 * Errors, one line each with the file's name: THAW_E_DATA for what is damaged, ends too early or is
 * of no known kind; THAW_E_LIMIT for what is too large; THAW_E_MISSING, THAW_E_IO, THAW_E_NOMEM.
 * *out is valid but undefined then.
 */
thaw_status picture_read(picture *out, const char *path,
                         const picture_limits *limits) THAW_MUST_USE;
thaw_status picture_decode(picture *out, const void *bytes, size_t size, const char *name,
                           const picture_limits *limits) THAW_MUST_USE;

/* What the first bytes of a file say, as far as they can: its kind, and of a PNG the size. */
thaw_status picture_probe(const void *bytes, size_t size, const char *name,
                          const picture_limits *limits) THAW_MUST_USE;
/* extent.c: bytes taken while a file of `size` bytes, of which the first n are at hand, is read and
 * decoded for a network of so many channels; as far as its header says. */
size_t picture_extent(int fd, const char *path, size_t size, const void *bytes, size_t n,
                      int channels);
bool picture_named(const char *name); /* .jpg, .jpeg, .png, in any case */

/* jpeg.c, png.c: the two decoders. *orientation: 1 to 8 as in EXIF. */
thaw_status jpeg_decode(picture *out, int *orientation, const void *bytes, size_t size,
                        const char *name, const picture_limits *limits) THAW_MUST_USE;
thaw_status png_decode(picture *out, int *orientation, const void *bytes, size_t size,
                       const char *name, const picture_limits *limits) THAW_MUST_USE;

/* exif.c: the orientation in a TIFF block of n bytes; 1 where it says nothing usable. */
int exif_orientation(const uint8_t *tiff, size_t n);

/* Turn a stored picture upright. */
thaw_status picture_upright(picture *p, int orientation, const char *name) THAW_MUST_USE;

/* The same picture with 1 or 3 channels: grey is repeated; to grey with the weights of ITU-R 601.
 */
thaw_status picture_channels(picture *p, int channels, const char *name) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * pixels to the network's size */

typedef enum resample_filter { RESAMPLE_BILINEAR, RESAMPLE_BICUBIC } resample_filter;

typedef struct picture_box {
    int64_t x, y, width, height;
} picture_box;

/*
 * The part `from` of src, resized to width x height with antialiasing, of which `window` is kept:
 * the same bits as Pillow's Image.crop, resize and crop. All sizes 1 or more, boxes inside.
 */
thaw_status picture_resize(picture *dst, const picture *src, const picture_box *from, int64_t width,
                           int64_t height, const picture_box *window, resample_filter filter,
                           const char *name) THAW_MUST_USE;

/* How pictures become images of a network. */
typedef struct picture_recipe {
    int64_t height, width; /* of what comes out */
    int64_t shorter_side;  /* resized to this, then the centre is cut out; 0: stretched to fit */
    int channels;          /* 1 or 3 */
    resample_filter filter;
    double crop_scale[2]; /* random-resized crop: share of the area; 0, 0: none */
    double jitter[3];     /* random brightness, contrast, saturation: factor 1 +- this; 0: none */
    int64_t most_pixels;
} picture_recipe;
#define PICTURE_RECIPE_INIT                                                                        \
    {                                                                                              \
        .height = 224, .width = 224, .shorter_side = 256, .channels = 3,                           \
        .most_pixels = PICTURE_MOST_PIXELS                                                         \
    }

/* THAW_E_RANGE or THAW_E_SHAPE, naming the recipe's key. */
thaw_status picture_recipe_check(const picture_recipe *r) THAW_MUST_USE;

/* Words of a random stream for one sample of one epoch, one after the other. */
typedef struct picture_draw {
    philox_key key;
    uint64_t epoch, sample;
    uint32_t word[4];
    unsigned used;
} picture_draw;
picture_draw picture_draw_begin(philox_key key, int64_t epoch, int64_t sample);
double picture_draw_uniform(picture_draw *d); /* [0, 1) */

/*
 * Cut and resize to [height, width, channels]. draw NULL: as in evaluation. Otherwise with what the
 * recipe says of random crops and colours, drawn as torchvision defines them.
 */
thaw_status picture_fit(picture *dst, picture *src, const picture_recipe *r, picture_draw *draw,
                        const char *name) THAW_MUST_USE;

/* Where a random-resized crop lies in a picture of this size. */
picture_box crop_draw(picture_draw *draw, int64_t width, int64_t height, const double scale[2]);

/* ----------------------------------------------------------------------------------------------
 * data sets of pictures */

/* Where the pictures of a data set lie. */
typedef struct picture_source {
    bool lists; /* train, valid and test are CSV files; else folders with a folder for each class */
    bool numbers; /* of lists: the second column is a number to predict, not a class */
    const char *train, *valid, *test; /* NULL: none */
    double valid_fraction;            /* share of each class of `train` that becomes `valid` */
    uint64_t seed;                    /* of that draw */
    bool skip_broken; /* leave out and replace what cannot be read; else that is an error */
    picture_recipe recipe;
} picture_source;

/*
 * Data sets of a source: out[0] train, out[1] valid, out[2] test; NULL where the source has none.
 * Classes are the folders (or labels) of `train`, sorted by bytes. Of every file the first bytes
 * are looked at; the digest covers names, classes, sizes, and both ends of each file.
 *
 * A file that cannot be read is an error that lists them, or with skip_broken left out. One whose
 * damage shows only when it is decoded ends the run, or is replaced by the next good one of its
 * class: always by the same, so results depend on nothing but the files. With numbers, skip_broken
 * decodes every file here, and leaves out those too.
 *
 * Errors: THAW_E_MISSING, THAW_E_DATA, THAW_E_LIMIT, those of picture_recipe_check.
 */
thaw_status dataset_open_pictures(dataset *out[3], const picture_source *source) THAW_MUST_USE;

/*
 * One file as the image of a network, as in evaluation: out [height, width, channels] of
 * r. x = (pixel / 255 - mean) / std as in loader_options, of which only real, mean, std and n_mean
 * are used.
 */
thaw_status picture_load(void *out, const char *path, const picture_recipe *r,
                         const loader_options *o) THAW_MUST_USE;

/* piclist.c: files with what is to be learned from them. Paths and names live in the region. */
typedef struct picture_entry {
    const char *path, *shown; /* to open; below the list's folder, for digests */
    int32_t label;
    float target;
    int64_t id; /* number in the list before anything was left out */
} picture_entry;
typedef struct picture_list {
    thaw_region *region;
    picture_entry *entry;
    size_t n, capacity;
    const char **class_name; /* sorted */
    size_t n_classes, class_capacity;
    int64_t others; /* files of other kinds, left out */
} picture_list;
void picture_list_done(picture_list *l);

/* classes NULL: the list's own, which must all have pictures; else those of that list, and others
 * are errors. */
thaw_status picture_list_folder(picture_list *out, const char *folder,
                                const picture_list *classes) THAW_MUST_USE;
thaw_status picture_list_csv(picture_list *out, const char *file, bool numbers,
                             const picture_list *classes) THAW_MUST_USE;

/* Take a share of each class out of `from`, drawn: from keeps the rest. */
thaw_status picture_list_split(picture_list *out, picture_list *from, double share,
                               uint64_t seed) THAW_MUST_USE;

/* Make sample i of a data set of pictures: pixels of the network's size. draw NULL: as in
 * evaluation. file: room for the decoder, kept between calls. Any number of threads at a time. */
typedef struct picture_set picture_set;
thaw_status picture_set_make(picture *dst, picture *file, const dataset *d, int64_t i,
                             const picture_draw *draw) THAW_MUST_USE;
void picture_set_destroy(picture_set *s);

/* Bytes of the list; and what making a sample takes at most, for each that is made at a time. */
size_t picture_set_bytes(const picture_set *s);
size_t picture_set_making(const picture_set *s);

/* colour.c: as torchvision's functions on Pillow images, bit for bit. */
void colour_brightness(picture *p, float factor);
void colour_contrast(picture *p, float factor);
void colour_saturation(picture *p, float factor);
void colour_jitter(picture *p, const double strength[3], picture_draw *draw);
uint8_t colour_grey(const uint8_t *rgb);

#endif
