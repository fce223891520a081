/* Every member of a region on a thread of its own, for ThreadSanitizer.
 *
 * The library's pool orders the claims of members, and what is ordered is no race: which ones it
 * would show depends on which thread came first. Here nothing but the end orders two members. */
#include <pthread.h>
#include <stdlib.h>

typedef void fd_member_function(void *context, int member, int members);

struct member {
  fd_member_function *function;
  void *context;
  int number, members;
  pthread_t thread;
};

static void *run(void *argument) {
  struct member *member = argument;
  member->function(member->context, member->number, member->members);
  return NULL;
}

void strict_run(fd_member_function *function, void *context, int members, const void *site);
void strict_run(fd_member_function *function, void *context, int members, const void *site) {
  (void)site;
  struct member *all = calloc((size_t)members, sizeof *all);
  if (all == NULL) abort();
  for (int number = 0; number < members; ++number) {
    all[number] = (struct member){function, context, number, members, 0};
    if (pthread_create(&all[number].thread, NULL, run, &all[number]) != 0) abort();
  }
  for (int number = 0; number < members; ++number) pthread_join(all[number].thread, NULL);
  free(all);
}
