// Tests on which cards an image runs, and which machine code they take.
#include "cuda/image.h"

#include "check.h"

using heed::cuda::Cubin;
using heed::cuda::Image;

TEST(image_runs_on_its_architecture_and_later_ones) {
  const Image ampere{"ampere", 80, false, nullptr, 0, 0, 0, nullptr, 0};
  const Image hopper{"hopper", 90, true, nullptr, 0, 0, 0, nullptr, 0};
  EXPECT(!ampere.runs_on(7, 5));
  EXPECT(ampere.runs_on(8, 0) && ampere.runs_on(8, 6) && ampere.runs_on(12, 0));
  EXPECT(!hopper.runs_on(8, 9) && hopper.runs_on(9, 0) && !hopper.runs_on(10, 0));
}

TEST(image_gives_the_newest_machine_code_of_the_cards_major_version) {
  const Cubin cubins[] = {{80, 0}, {89, 16}, {86, 32}, {90, 48}};
  const Image image{"image", 80, false, nullptr, 0, 64, 64, cubins, 4};
  EXPECT(image.cubin_for(8, 0) == &cubins[0]);
  EXPECT(image.cubin_for(8, 7) == &cubins[2]);
  EXPECT(image.cubin_for(8, 9) == &cubins[1]);
  EXPECT(image.cubin_for(9, 0) == &cubins[3]);
  EXPECT(image.cubin_for(10, 0) == nullptr);
}
