/*
 * crew.c - threads that share a number of tasks of unequal length: each takes the next number.
 *
 * What a task does must not depend on who does it. Knows nothing of the tasks.
 */
#include "data/data.h"

#include <signal.h>
#include <stdatomic.h>

#define MOST_WORKERS 256

typedef struct member {
    crew *crew;
    pthread_t thread;
    int number;
} member;

struct crew {
    int workers;
    member *member; /* [workers]; 0 is the caller */
    int started;
    void (*work)(void *user, int worker, int64_t i);
    void *user;
    int64_t n;
    atomic_llong next;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake, ready;
    uint64_t round; /* of crew_run; a worker that has seen it is at work or done */
    int busy;
    bool quit;
};

int crew_thread(pthread_t *out, void *(*body)(void *), void *user)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(out, NULL, body, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void take_tasks(crew *c, int worker)
{
    for (;;) {
        const int64_t i = atomic_fetch_add(&c->next, 1);

        if (i >= c->n)
            return;
        c->work(c->user, worker, i);
    }
}

static void *member_main(void *user)
{
    const member *m = user;
    crew *c = m->crew;
    uint64_t seen = 0;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->quit && c->round == seen)
            pthread_cond_wait(&c->wake, &c->lock);
        if (c->quit)
            break;
        seen = c->round;
        pthread_mutex_unlock(&c->lock);
        take_tasks(c, m->number);
        pthread_mutex_lock(&c->lock);
        if (--c->busy == 0)
            pthread_cond_signal(&c->ready);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

thaw_status crew_create(crew **out, int workers)
{
    crew *c = thaw__new(1, sizeof *c);
    thaw_status status = THAW_OK;

    if (!c)
        return thaw_fail(THAW_E_NOMEM, "out of memory for threads that read data");
    c->workers = THAW_MIN(THAW_MAX(workers, 1), MOST_WORKERS);
    c->started = 1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->ready, NULL);
    c->member = thaw__new((size_t)c->workers, sizeof *c->member);
    if (!c->member) {
        status = thaw_fail(THAW_E_NOMEM, "out of memory for threads that read data");
        goto done;
    }
    for (; c->started < c->workers; c->started++) {
        member *m = &c->member[c->started];

        *m = (member){.crew = c, .number = c->started};
        if (crew_thread(&m->thread, member_main, m) != 0)
            break; /* fewer do as well */
    }
    *out = c;
    c = NULL;
done:
    crew_destroy(c);
    return status;
}

void crew_destroy(crew *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->quit = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (int i = 1; i < c->started; i++)
        pthread_join(c->member[i].thread, NULL);
    pthread_cond_destroy(&c->ready);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    thaw__free(c->member);
    thaw__free(c);
}

int crew_size(const crew *c)
{
    return c->workers;
}

void crew_run(crew *c, int64_t n, void (*work)(void *user, int worker, int64_t i), void *user)
{
    pthread_mutex_lock(&c->lock);
    c->work = work;
    c->user = user;
    c->n = n;
    atomic_store(&c->next, 0);
    c->busy = c->started - 1;
    c->round++;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    take_tasks(c, 0);
    pthread_mutex_lock(&c->lock);
    while (c->busy > 0)
        pthread_cond_wait(&c->ready, &c->lock);
    pthread_mutex_unlock(&c->lock);
}
