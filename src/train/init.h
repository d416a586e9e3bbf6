/*
 * init.h - a recipe to begin with: what is found out about a network and data (init.c,
 * init_data.c), and the text made of it (init_text.c).
 */
#ifndef THAW_TRAIN_INIT_H
#define THAW_TRAIN_INIT_H

#include "train/train.h"

/* What lies at the paths given as data. */
typedef struct data_look {
    data_format format;
    char *path[3];         /* of train, valid, test, absolute; NULL: none */
    bool numbers;          /* of a list: numbers to predict, not classes */
    int64_t height, width; /* of IDX images, */
    double mean, std;      /* and of their pixels */
} data_look;
thaw_status data_look_at(data_look *out, const char *const *data, int n_data) THAW_MUST_USE;
thaw_status data_look_idx(data_look *l,
                          const thaw_recipe *r) THAW_MUST_USE; /* fills the last four */
void data_look_done(data_look *l);

/* Everything that the recipe says. */
typedef struct init_choice {
    const char *model;   /* as given */
    bool place;          /* that is where weights lie, else an architecture's name */
    model_config config; /* of the network before it meets the data */
    bool no_head;        /* its weights end before the last layer */
    const char *preset;  /* NULL: none was asked for */
    data_look data;
    double valid_fraction;
    int64_t side;            /* of images; 0: the recipe's default */
    double mean, std;        /* std 0: likewise */
    int64_t channels, scale; /* of IDX images; 0: as they are */
    int64_t batch;
    size_t memory; /* that it takes; 0: not known */

    const thaw_recipe *recipe; /* of the draft in which the data were opened; or NULL, */
    const dataset *train, *valid;
} init_choice;
void init_print(text *t, const init_choice *c, const char *phases);

#endif
