/*
 * clones - copies of a function for several instruction sets.
 *
 * THAW_CLONES is for leaf functions with hot loops: one copy for each of three instruction sets,
 * chosen when the program starts. By feature: arch=… asks for that very processor model and leaves
 * all later ones with the default. Clang 14 cannot. The thread sanitizer instruments what chooses,
 * which runs before the sanitizer does.
 */
#ifndef THAW_BASE_CLONES_H
#define THAW_BASE_CLONES_H

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define THAW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define THAW_CLONES
#endif

#endif
