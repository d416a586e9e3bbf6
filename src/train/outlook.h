/*
 * outlook - what a path holds, with its phases, as far as the files there tell (outlook.c), and the
 * views of it (showview.c, diffview.c). Part of train.h, which includes it.
 */
#ifndef THAW_OUTLOOK_H
#define THAW_OUTLOOK_H

#include "train/train.h"

typedef struct outlook {
    thaw_recipe *recipe; /* NULL: a network alone, and no schedule */
    const model *model;
    thaw_schedule *schedule; /* with the edits of the record */
    char *checkpoint;        /* NULL: none */
    char *weights;           /* file or folder of a network by itself; NULL: none */
    run_record *record;      /* of the checkpoint */
    model *own_model;        /* what of the above belongs to the outlook, not to its job */
    thaw_schedule *own_schedule;
    job *job;
} outlook;

/*
 * path: a recipe (its data are opened), a run folder (its newest checkpoint, else its recipe), a
 * checkpoint, or a model folder. A checkpoint is read without weights and data.
 */
thaw_status outlook_open(outlook **out, const char *path) THAW_MUST_USE;
void outlook_close(outlook *o);

/* Progress of the checkpoint, or the start; the phase it stands in, -1 without one. */
thaw_progress outlook_now(const outlook *o);
int outlook_phase(const outlook *o);

/*
 * What holds in a phase: in the one a checkpoint stands in, now; in those it has left, as they
 * ended; else as it begins. at_end: in all of them as they end. Its base rate, before the curve.
 */
thaw_status outlook_effect(const thaw_effect **out, const outlook *o, int phase,
                           bool at_end) THAW_MUST_USE;
double outlook_rate(const outlook *o, const thaw_effect *effect);

/* showview.c. stand_of: how the parameters first used at or below a module stand. */
typedef struct stand {
    int64_t trainable, total;
    double least, most; /* coefficients of the trainable ones; 0 without any */
} stand;
stand stand_of(const thaw_tree *tree, const thaw_effect *effect, int module);
const char *stand_state(const stand *s); /* "trainable", "frozen", "mixed" */
void stand_print(text *out, const stand *s, double lr);
thaw_status show_view(text *out, const outlook *o, bool json) THAW_MUST_USE;

/* diffview.c. Whether two outlooks differ in phase state, and where. */
thaw_status diff_view(text *out, bool *differ, const outlook *a, const outlook *b,
                      bool json) THAW_MUST_USE;

#endif
