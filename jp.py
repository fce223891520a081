from show import *
